/** How long a page may take to set its title after it has changed its address, in milliseconds. */
const TITLE_DELAY = 60

/**
 * Calls `view` for the page that is shown, and for each that single-page navigation shows after it. An address that is
 * shown already is no other page: sites set the same one again, to keep a scroll position for example.
 *
 * @param {() => void} view
 * @param {boolean} hash whether what stands behind `#` is part of the address
 */
export function watchNavigation(view, hash) {
  let viewed
  let timer

  const address = () => location.pathname + location.search + (hash ? location.hash : '')

  /** Says that the current page was viewed. */
  function seen() {
    clearTimeout(timer)
    viewed = address()
  }

  /** Views the page that is shown now, unless that was done. */
  function settle() {
    if (address() === viewed) return
    seen()
    view()
  }

  function changed() {
    clearTimeout(timer)
    timer = setTimeout(settle, TITLE_DELAY)
  }

  for (const name of ['pushState', 'replaceState']) {
    const original = history[name]
    history[name] = function (...args) {
      const result = original.apply(this, args)
      changed()
      return result
    }
  }
  addEventListener('popstate', changed)
  addEventListener('hashchange', changed)
  addEventListener('pagehide', settle)
  addEventListener('pageshow', ({ persisted }) => {
    if (!persisted) return
    viewed = undefined // the back button brought a whole page from the browser's cache
    changed()
  })
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', settle)
  else changed()

  return { settle, seen }
}
