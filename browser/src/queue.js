/**
 * The events that wait to be sent, oldest first. All tabs of an origin share it.
 *
 * Each event is an item of its own, so tabs add and remove without reading what others wrote: no update is lost. An
 * event's JSON, with its messageId, is made once. Its item is removed only when the server has answered for it, or when
 * a limit is reached.
 *
 * Who sends an event first marks it with the time: a lease. Other tabs leave it alone until the lease ends; it ends by
 * itself, because a tab can go at any moment. A page that went before the answer came has left its marks: such events
 * are sent again, under the same messageId.
 */

import { attempt } from './attempt.js'
import { setFirst } from './stores.js'

/** Milliseconds in which nobody else sends an event. Longer than a request may take. */
export const LEASE = 40_000

/** Limits are looked after once for so many events that come: it takes reading all that wait. */
const TRIM_EVERY = 20

const MARK = 13
const FREE = '0'.repeat(MARK)

const encoder = new TextEncoder()

/** The size of a text in UTF-8. */
export const sizeOf = (text) => encoder.encode(text).length

/**
 * @param {import('./stores.js').Store[]} stores an event goes to the first that takes it
 * @param {string} prefix of all its keys
 * @param {{maxEvents: number, maxBytes: number, maxAge: number}} limits `maxAge` in milliseconds
 * @param {(count: number) => void} lost is told how many events a limit has cost, of the oldest
 */
export function createQueue(stores, prefix, { maxEvents, maxBytes, maxAge }, lost) {
  let last = 0
  let pushed = 0
  /** How many waited when they were last read, and came from this page since. */
  let count = 0

  function entries() {
    const found = []
    for (const store of stores) {
      for (const key of store.keys()) {
        const value = key.startsWith(prefix) && store.get(key)
        if (value) {
          const at = parseInt(key.slice(prefix.length))
          const lease = +value.slice(0, MARK)
          if (at && lease >= 0) found.push({ store, key, json: value.slice(MARK), lease, at })
        }
      }
    }
    return found.sort((one, other) => one.at - other.at)
  }

  const remove = (taken) => taken.forEach(({ store, key }) => store.remove(key))

  function mark({ store, key, json }, text) {
    // Storage may be full to the last byte. Without its mark the event may be sent twice, which the server sees.
    attempt(() => store.get(key) && store.set(key, text + json))
  }

  /** Removes what exceeds a limit; returns the rest. */
  function trim() {
    const now = Date.now()
    let bytes = 0
    const over = new Set()
    const all = entries()
    for (let index = all.length; index--; ) {
      const entry = all[index]
      bytes += sizeOf(entry.json)
      if (now - entry.at > maxAge || bytes > maxBytes || all.length - index > maxEvents) over.add(entry)
    }
    remove([...over])
    if (over.size) lost(over.size)
    count = all.length - over.size
    return all.filter((entry) => !over.has(entry))
  }

  return {
    /** Adds an event; returns how many wait, as far as this page knows. */
    push(event) {
      last = Math.max(Date.now(), last + 1)
      setFirst(stores, `${prefix}${last}.${event.messageId}`, FREE + JSON.stringify(event))
      count += 1
      pushed += 1
      if (pushed % TRIM_EVERY === 0) trim()
      return count
    },

    /** Leases the oldest free events: `most` and `bytes` of JSON at most, but one at least. */
    take(most, bytes) {
      const now = Date.now()
      const taken = []
      for (const entry of trim()) {
        if (Math.abs(now - entry.lease) >= LEASE) {
          bytes -= sizeOf(entry.json) + 1
          if (taken.length && (bytes < 0 || taken.length >= most)) break
          mark(entry, String(now).padStart(MARK, '0'))
          taken.push(entry)
        }
      }
      return taken
    },

    /** Gives events back that have certainly not been taken by the server. */
    release: (taken) => taken.forEach((entry) => mark(entry, FREE)),

    /** Forgets events that the server has answered for. */
    remove,

    /** How many events wait, leased ones too. */
    size: () => (count = entries().length),
  }
}
