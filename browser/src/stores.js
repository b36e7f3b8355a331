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

/** A `Storage`, shared by all tabs of an origin. `set` throws when it is full. */
export function sharedStore(storage) {
  return {
    keys: () => Object.keys(storage),
    get: (key) => storage.getItem(key),
    set: (key, value) => storage.setItem(key, value),
    remove: (key) => storage.removeItem(key),
  }
}

/** Sets an item in the first of `stores` that takes it: a browser's storage can be full. */
export function setFirst(stores, key, value) {
  for (const store of stores) {
    try {
      return store.set(key, value)
    } catch {
      store.remove(key) // an older value; the next store takes this one
    }
  }
}

/** @returns {Store[]} */
export function openStores() {
  const stores = [memoryStore()]
  try {
    // Node.js may have a localStorage, too: servers have no use for it.
    if (typeof document === 'object') stores.unshift(sharedStore(localStorage))
  } catch {
    // The visitor forbids storage.
  }
  return stores
}

/** What `analytics` wants for a storage: values by key, in the first store that takes them. */
export function createStorage(stores = openStores()) {
  const removeItem = (key) => stores.forEach((store) => store.remove(key))
  return {
    removeItem,
    getItem(key) {
      for (const store of stores) {
        try {
          const value = JSON.parse(store.get(key))
          if (value != null) return value
        } catch {
          // Not one of ours.
        }
      }
    },
    setItem(key, value) {
      if (value != null) setFirst(stores, key, JSON.stringify(value))
    },
  }
}
