import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStorage, memoryStore, openStores, setFirst, sharedStore } from '../src/stores.js'

const refuse = () => {
  throw new Error('SecurityError')
}

/** Gives Node.js what a browser has by these names, until the test ends. */
function pretend(t, values) {
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(globalThis, name, { configurable: true, ...value })
    t.after(() => delete globalThis[name])
  }
}

for (const [kind, localStorage] of [
  ['is null', { value: null }],
  ['is not there', { value: undefined }],
  ['may not be asked for', { get: refuse }],
  ['may not be read', { value: { getItem: refuse, setItem: refuse, removeItem: refuse } }],
]) {
  test(`where localStorage ${kind} there is memory`, (t) => {
    pretend(t, { document: { value: {} }, localStorage })
    const stores = openStores()
    setFirst(stores, 'a', '1')
    assert.equal(stores.length, 1)
    assert.deepEqual([stores[0].get('a'), stores[0].keys()], ['1', ['a']])
  })
}

test('where localStorage is full, what lies in it is still read', (t) => {
  pretend(t, { document: { value: {} }, localStorage: { value: { getItem: () => 'old', setItem: refuse } } })
  const [first, ...others] = openStores()
  assert.equal(first.get('a'), 'old')
  assert.equal(others.length, 1)
})

for (const [kind, broken] of [
  ['throws later', { getItem: refuse, setItem: refuse, removeItem: refuse }],
  ['keeps nothing', { getItem: () => null, setItem() {}, removeItem() {} }],
]) {
  test(`a storage that ${kind} leaves all to memory`, () => {
    const stores = [sharedStore(new Proxy(broken, { ownKeys: refuse })), memoryStore()]
    const storage = createStorage(stores)
    storage.setItem('a', { b: 1 })
    assert.deepEqual(storage.getItem('a'), { b: 1 })
    assert.deepEqual(stores.map((store) => store.keys()), [[], ['a']])
    storage.removeItem('a')
    assert.equal(storage.getItem('a'), undefined)
  })
}
