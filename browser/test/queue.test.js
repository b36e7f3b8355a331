import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createQueue, LEASE, sizeOf } from '../src/queue.js'
import { memoryStore } from '../src/stores.js'

const HOUR = 3_600_000
const LIMITS = { maxEvents: 100, maxBytes: 100_000, maxAge: 48 * HOUR }
const ALL = [1_000, 1_000_000]

const idsOf = (taken) => taken.map(({ json }) => JSON.parse(json).messageId)

/** A queue; those that share `stores` are tabs of one browser. */
function open({ stores = [memoryStore()], limits, prefix = 'q.' } = {}) {
  const lost = []
  const queue = createQueue(stores, prefix, { ...LIMITS, ...limits }, (count) => lost.push(count))
  return { queue, stores, lost, push: (...ids) => ids.forEach((messageId) => queue.push({ messageId })) }
}

/** Sets the clock that `Date.now` reads. */
function clock(t, now = 1_800_000_000_000) {
  t.mock.timers.enable({ apis: ['Date'], now })
  return (milliseconds) => t.mock.timers.setTime((now += milliseconds))
}

test('events are taken in the order in which they came, at most so many', () => {
  const { queue, push } = open()
  push('a', 'b', 'c')
  assert.deepEqual(idsOf(queue.take(2, 1_000)), ['a', 'b'])
  assert.deepEqual(idsOf(queue.take(2, 1_000)), ['c'])
  assert.deepEqual(queue.take(2, 1_000), [])
  assert.equal(queue.size(), 3)
})

test('events are taken up to a size in UTF-8, but one at least', () => {
  const { queue, push } = open()
  push('ü'.repeat(30), 'ö'.repeat(30), 'c')
  assert.equal(sizeOf('ü'), 2)
  assert.equal(queue.take(10, 100).length, 1)
  assert.equal(queue.take(10, 10).length, 1)
  assert.deepEqual(idsOf(queue.take(10, 1)), ['c'])
})

test('what was taken is not taken again before the lease ends, by no tab', (t) => {
  const pass = clock(t)
  const one = open()
  const other = open({ stores: one.stores })
  one.push('a')
  assert.deepEqual(idsOf(one.queue.take(...ALL)), ['a'])
  pass(LEASE - 1)
  assert.deepEqual([...one.queue.take(...ALL), ...other.queue.take(...ALL)], [])
  pass(1)
  assert.deepEqual(idsOf(other.queue.take(...ALL)), ['a'])
})

test('a lease from the future, of a clock that was put back, ends too', (t) => {
  const pass = clock(t)
  const { queue, push } = open()
  push('a')
  queue.take(...ALL)
  pass(-HOUR)
  assert.deepEqual(idsOf(queue.take(...ALL)), ['a'])
})

test('two tabs that add and remove at the same time cost each other nothing', () => {
  const one = open()
  const other = open({ stores: one.stores })
  one.push('a')
  const taken = one.queue.take(...ALL)
  other.push('b')
  one.queue.remove(taken)
  one.push('c')
  other.push('d')
  assert.deepEqual(idsOf(other.queue.take(...ALL)).sort(), ['b', 'c', 'd'])
})

test('what is given back is free at once, and what was removed meanwhile does not come back', () => {
  const { queue, push } = open()
  push('a', 'b')
  const taken = queue.take(...ALL)
  queue.remove(taken.slice(0, 1))
  queue.release(taken)
  assert.deepEqual(idsOf(queue.take(...ALL)), ['b'])
})

test('an event that may have arrived is sent again as long as others wait, and is a loss after', (t) => {
  const pass = clock(t)
  const { queue, push, lost } = open()
  push('a')
  queue.take(...ALL)
  pass(48 * HOUR)
  assert.deepEqual(idsOf(queue.take(...ALL)), ['a'])
  assert.deepEqual(lost, [])
  pass(1)
  assert.deepEqual(queue.take(...ALL), [])
  assert.deepEqual(lost, [1])
})

test('the oldest events go when there are too many', () => {
  const { queue, push, lost } = open({ limits: { maxEvents: 2 } })
  push('a', 'b', 'c')
  assert.deepEqual(idsOf(queue.take(...ALL)), ['b', 'c'])
  assert.deepEqual(lost, [1])
})

test('the oldest events go when they are too large together', () => {
  const size = sizeOf(JSON.stringify({ messageId: 'a' }))
  const { queue, push, lost } = open({ limits: { maxBytes: 2 * size } })
  push('a', 'b', 'c')
  assert.deepEqual(idsOf(queue.take(...ALL)), ['b', 'c'])
  assert.deepEqual(lost, [1])
})

test('events that are too old go', (t) => {
  const pass = clock(t)
  const { queue, push, lost } = open()
  push('a')
  pass(48 * HOUR)
  push('b')
  pass(1)
  assert.deepEqual(idsOf(queue.take(...ALL)), ['b'])
  assert.deepEqual(lost, [1])
})

test('what waits is not read for each event that comes', () => {
  const store = memoryStore()
  let reads = 0
  const keys = () => {
    reads += 1
    return store.keys()
  }
  const { queue, push } = open({ stores: [{ ...store, keys }] })
  const counts = Array.from({ length: 100 }, (_, index) => queue.push({ messageId: String(index) }))
  assert.deepEqual(counts, Array.from({ length: 100 }, (_, index) => index + 1))
  assert.ok(reads <= 5, `${reads} reads`)
  push('b', 'c')
  assert.equal(queue.size(), 102)
})

test('limits hold within some events while nothing can be sent', () => {
  const { queue, lost } = open({ limits: { maxEvents: 10 } })
  const most = Array.from({ length: 100 }, (_, index) => queue.push({ messageId: String(index) }))
  assert.ok(Math.max(...most) < 10 + 20)
  assert.deepEqual(idsOf(queue.take(...ALL)).at(-1), '99')
  assert.equal(queue.size(), 10)
  assert.equal(lost.reduce((sum, count) => sum + count), 90)
})

test('a store that is full leaves the event to the next', () => {
  const full = { ...memoryStore(), set: () => assert.fail('QuotaExceededError') }
  const { queue, push } = open({ stores: [full, memoryStore()] })
  push('a', 'b')
  assert.deepEqual(idsOf(queue.take(...ALL)), ['a', 'b'])
})

test("other keys of the same storage are nobody's events", () => {
  const stores = [memoryStore()]
  stores[0].set('else', 'x')
  stores[0].set('q.nonsense', 'x')
  open({ stores, prefix: 'other.' }).push('a')
  const { queue } = open({ stores })
  assert.deepEqual(queue.take(...ALL), [])
  assert.equal(stores[0].get('else'), 'x')
})
