/**
 * Places for texts by key, the best one first: localStorage where the browser lets us, and memory.
 *
 * @typedef {{
 *   keys(): string[],
 *   get(key: string): ?string,
 *   set(key: string, value: string): void,
 *   remove(key: string): void,
 * }} Store
 */

import { attempt } from './attempt.js'

/** Memory: lasts as long as the page or process. */
export function memoryStore() {
  const items = new Map()
  return {
    keys: () => [...items.keys()],
    get: (key) => items.get(key) ?? null,
    set: (key, value) => void items.set(key, value),
    remove: (key) => void items.delete(key),
  }
}

/** A `Storage`, shared by all tabs of an origin. `set` throws when it is full; what cannot be read is not there. */
export function sharedStore(storage) {
  return {
    keys: () => attempt(() => Object.keys(storage), []),
    get: (key) => attempt(() => storage.getItem(key), null),
    set: (key, value) => storage.setItem(key, value),
    remove: (key) => attempt(() => storage.removeItem(key)),
  }
}

/** Sets an item in the first of `stores` that takes it: a browser's storage can be full, or keep nothing. */
export function setFirst(stores, key, value) {
  for (const store of stores) {
    attempt(() => store.set(key, value))
    if (store.get(key) === value) return
    store.remove(key) // an older value; the next store takes this one
  }
}

/** @returns {Store[]} */
export function openStores() {
  const stores = [memoryStore()]
  attempt(() => {
    // Node.js may have a localStorage, too: servers have no use for it.
    if (typeof document !== 'object') return
    localStorage.getItem('') // throws where the visitor forbids storage, or a WebView has null
    stores.unshift(sharedStore(localStorage))
  })
  return stores
}

/** What `analytics` wants for a storage: values by key, in the first store that takes them. */
export function createStorage(stores = openStores()) {
  const removeItem = (key) => stores.forEach((store) => store.remove(key))
  return {
    removeItem,
    getItem(key) {
      for (const store of stores) {
        const value = attempt(() => JSON.parse(store.get(key))) // it may be somebody else's text
        if (value != null) return value
      }
    },
    setItem(key, value) {
      if (value != null) setFirst(stores, key, JSON.stringify(value))
    },
  }
}
