import { attempt } from './attempt.js'

/**
 * What the visitor agreed to, by category; remembered in the browser.
 *
 * @param {import('./stores.js').Store} store
 * @param {string} key
 * @param {Record<string, boolean>} initial what holds for the categories that no one has said anything about
 */
export function createConsent(store, key, initial) {
  let said = {}

  // Read anew each time: another tab may have asked.
  const read = () => {
    said = attempt(() => JSON.parse(store.get(key))) || said // it may be somebody else's text
    return { ...initial, ...said }
  }

  return {
    read,
    /** Adds to what was said before. */
    set(preferences) {
      read()
      said = { ...said, ...preferences }
      attempt(() => store.set(key, JSON.stringify(said))) // where storage is full it holds for this page
    },
  }
}
