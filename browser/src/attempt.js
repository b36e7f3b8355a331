/** What `action` returns; `otherwise` where it throws: browsers can forbid storage and cookies at any moment. */
export function attempt(action, otherwise) {
  try {
    return action()
  } catch {
    return otherwise
  }
}
