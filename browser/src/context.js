/** What a browser tells about itself, its page and the way to it. */

import { getBrowserLocale, getTimeZone } from './utils.js'
import { VERSION } from './version.js'

const library = { name: 'eventrouter.js', version: VERSION }

const noHash = (url) => url.split('#')[0]

/** @param {boolean} hash whether what stands behind `#` is part of a page's address (a site with hash routing) */
export function createContext(hash) {
  if (typeof document !== 'object') return { view() {}, page: () => ({}), describe: () => ({ library }) }

  let current
  let previous
  let campaign

  const address = () => (hash ? location.href : noHash(location.href))

  /** The page's `utm_` parameters: of the last address that had some, for single-page navigation drops them. */
  function readCampaign() {
    const found = {}
    for (const [name, value] of new URLSearchParams(location.search)) {
      if (name.startsWith('utm_') && value) found[name === 'utm_campaign' ? 'name' : name.slice(4)] = value
    }
    if (Object.keys(found).length) campaign = found
    return campaign
  }

  /** Segment's five facts of a page. */
  const page = () => ({
    path: location.pathname + (hash ? location.hash : ''),
    referrer: previous || document.referrer,
    search: location.search,
    title: document.title,
    url: address(),
  })

  readCampaign()

  return {
    /** Says that the current address is viewed: after a single-page navigation, the page before is its referrer. */
    view() {
      if (current && current !== address()) previous = current
      current = address()
    },

    page,

    /** An event's `context`. */
    describe() {
      const { referrer } = document
      const isForeign = referrer && referrer.split('/')[2] !== location.host
      return {
        library,
        page: page(),
        campaign: readCampaign(),
        referrer: isForeign ? { url: referrer } : undefined,
        locale: getBrowserLocale(),
        timezone: getTimeZone(),
        userAgent: navigator.userAgent,
        screen: { width: screen.width, height: screen.height, density: devicePixelRatio },
      }
    },
  }
}
