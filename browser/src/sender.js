import { attempt } from './attempt.js'
import { LEASE, sizeOf } from './queue.js'

/** What fits in a request that outlives its page: browsers allow 64 KB to all of them together. */
const KEEPALIVE_BYTES = 60_000

/** Milliseconds until a request counts as failed. */
const TIMEOUT = 30_000

/** The longest wait that a server can ask for, in milliseconds. */
const LONGEST_WAIT = 3_600_000

const MAX_COUNT = 500

const page = typeof document === 'object'
const outlives = !page || 'keepalive' in Request.prototype

/** Whether the machine is known to have no network. */
const isOffline = () => page && navigator.onLine === false

/**
 * Sends what is in a queue.
 *
 * Bodies are text/plain with the write key inside: this and nothing else lets a page post to another origin without a
 * preflight, which would double the requests and which no page that is being closed would live to see answered.
 *
 * @param {ReturnType<typeof import('./queue.js').createQueue>} queue
 * @param {import('./stores.js').Store} notes where all tabs read when to try again
 * @param {{writeKey: string, host: string, flushAt: number, flushInterval: number, prefix: string,
 *   retry: {initial: number, max: number}}} options durations in milliseconds
 */
export function createSender(queue, notes, { writeKey, host, flushAt, flushInterval, retry, prefix }) {
  const waitKey = `${prefix}wait`
  let maxCount = MAX_COUNT
  let draining
  let gone = false
  let timer
  let due = Infinity

  function later(milliseconds, patient) {
    const at = Date.now() + milliseconds
    if (at >= due) return
    clearTimeout(timer)
    due = at
    timer = setTimeout(() => {
      due = Infinity
      flush()
    }, milliseconds)
    // A server's process does not stay alive for a collector that is away.
    if (patient && timer.unref) timer.unref()
  }

  /** The agreed wait: until when, after how many failures, and whether the server asked for it. */
  function readWait() {
    const [until, failures, asked] = (notes.get(waitKey) || '').split('|').map(Number)
    // More than the longest wait: the clock was changed.
    const left = Math.min((until || 0) - Date.now(), LONGEST_WAIT)
    return { left, failures: failures || 0, asked: asked > 0 && left > 0 }
  }

  function wait(seconds) {
    const { failures } = readWait()
    const jitter = Math.random() * Math.min(retry.max, retry.initial * 2 ** failures)
    const asked = Math.min(seconds * 1000 || 0, LONGEST_WAIT)
    const milliseconds = Math.ceil(asked + jitter)
    // Where storage is full each tab waits by itself.
    attempt(() => notes.set(waitKey, [Date.now() + milliseconds, failures + 1, +(asked > 0)].join('|')))
    later(milliseconds, true)
  }

  const bodyOf = (batch) =>
    `{"writeKey":${JSON.stringify(writeKey)},"sentAt":"${new Date().toISOString()}",` +
    `"batch":[${batch.map(({ json }) => json).join()}]}`

  /** Posts a batch and settles it; returns whether the server can be asked for more. */
  async function post(batch, url) {
    const body = bodyOf(batch)
    const abort = new AbortController()
    const timeout = setTimeout(() => abort.abort(), TIMEOUT)
    let status = 0
    let answer
    let retryAfter
    try {
      const response = await fetch(url, {
        method: 'POST',
        body,
        keepalive: page && sizeOf(body) < KEEPALIVE_BYTES,
        credentials: 'include', // the collector may set a cookie of the site
        redirect: 'error', // following one would turn the POST into a GET
        signal: abort.signal,
      })
      status = response.status
      retryAfter = response.headers.get('retry-after')
      answer = await response.json()
    } catch {
      // No answer, or none of a collector: a proxy's or a hotspot's page.
    }
    clearTimeout(timeout)
    const isTaken = status === 200 && answer && answer.success
    // A collector says why, by a code. A proxy that cannot reach it, or knows nothing of it, may say 404 and mean "later".
    const isNo = /^4(?!08|29)/.test(status)
    const isRefused = status === 413 || (isNo && answer && typeof answer.code === 'string')
    if (isTaken || isRefused) {
      notes.remove(waitKey)
      if (isTaken) {
        for (const { code, message } of answer.rejected || []) console.warn(`eventrouter: ${code}: ${message}`)
      } else if (status === 413 && batch.length > 1) {
        maxCount = batch.length >> 1
        queue.release(batch)
        return true
      } else {
        const why = answer && answer.message ? `: ${answer.message}` : ''
        console.error(`eventrouter: ${batch.length} events were refused, HTTP ${status}${why}`)
      }
      queue.remove(batch)
      return true
    }
    // A page's end can look like a failure. Then the marks stay: the events may have arrived.
    if (gone && !status) return false
    if (isNo) console.warn(`eventrouter: HTTP ${status} from ${url}, but not by a collector; trying again later`)
    queue.release(batch)
    wait(retryAfter && (+retryAfter || (Date.parse(retryAfter) - Date.now()) / 1000))
    return false
  }

  async function drain(impatient) {
    for (;;) {
      const { left, asked } = readWait()
      if (isOffline()) return false
      if (left > 0 && (asked || !impatient)) {
        later(left, true)
        return false
      }
      const batch = queue.take(maxCount, KEEPALIVE_BYTES - 1_000)
      if (!batch.length) break
      if (!(await post(batch, `${host}v1/batch`))) return false
    }
    const isEmpty = !queue.size()
    if (!isEmpty) later(LEASE, true) // what another tab, or a page that has gone, was sending
    return isEmpty
  }

  /**
   * Sends all that waits; resolves to whether nothing is left. Never rejects. `impatient`: without waiting after a
   * failure, unless the server asked for it.
   */
  function flush(impatient) {
    draining = draining || drain(impatient).finally(() => (draining = undefined))
    return draining
  }

  /** Sends at once what one request can take along from a page that may be about to go. */
  function leave() {
    if (isOffline() || readWait().asked) return
    const batch = queue.take(maxCount, KEEPALIVE_BYTES - 1_000)
    if (!batch.length) return
    const url = `${host}beacon/v1/batch?writeKey=${encodeURIComponent(writeKey)}`
    if (outlives) post(batch, url)
    else if (!navigator.sendBeacon(url, bodyOf(batch))) queue.release(batch)
  }

  /** Sends soon what earlier pages have left. */
  const resume = () => queue.size() && later(flushInterval)

  if (page) {
    addEventListener('pagehide', () => {
      gone = true
      leave()
    })
    addEventListener('pageshow', () => {
      gone = false
      resume()
    })
    document.addEventListener('visibilitychange', () => document.visibilityState === 'hidden' && leave())
    addEventListener('online', () => {
      if (!readWait().asked) notes.remove(waitKey)
      later(Math.random() * flushInterval) // not all tabs in the same moment
    })
  }

  return {
    /** Queues an event and sends it soon. */
    push(event) {
      const count = queue.push(event)
      // Hidden pages may end without a sign.
      if (gone || (page && document.visibilityState === 'hidden' && readWait().left <= 0)) leave()
      else later(count < flushAt ? flushInterval : 0)
    },
    flush,
    resume,
  }
}
