import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Analytics } from 'analytics'
import eventrouter, { reducers, VERSION } from '../src/index.js'
import { createStorage, memoryStore } from '../src/stores.js'
import { startCollector, until } from './collector.js'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** `analytics` in Node.js with our plugin, and the collector that it sends to. */
async function setUp(t, options) {
  const collector = await startCollector(t)
  const retry = { initial: 10, max: 40 }
  const plugin = eventrouter({ writeKey: 'key', host: collector.host, flushInterval: 10, retry, ...options })
  const storage = createStorage([memoryStore()])
  const analytics = Analytics({ app: 'test', storage, reducers, plugins: [plugin] })
  return { collector, analytics, eventrouter: analytics.plugins.eventrouter }
}

/** Without what the client makes up. */
function told({ messageId, timestamp, context, ...event }) {
  assert.match(messageId, UUID)
  assert.match(timestamp, TIME)
  assert.deepEqual(context, { library: { name: 'eventrouter.js', version: VERSION } })
  return event
}

test('each kind of call arrives as the event of its kind', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  analytics.identify('u1', { email: 'ada@example.com' })
  analytics.track('Order Completed', { total: 42.5, items: ['ü😀'] })
  analytics.page({ title: 'Home', name: 'Start', category: 'Shop' })
  eventrouter.group('g1', { plan: 'pro' })
  eventrouter.alias('u2')
  assert.equal(await eventrouter.flush(), true)
  const events = collector.events().map(told)
  const properties = { title: 'Home', name: 'Start', category: 'Shop' }
  assert.deepEqual(new Map(events.map((event) => [event.type, event])), new Map(Object.entries({
    identify: { type: 'identify', userId: 'u1', traits: { email: 'ada@example.com' } },
    track: { type: 'track', userId: 'u1', event: 'Order Completed', properties: { total: 42.5, items: ['ü😀'] } },
    page: { type: 'page', userId: 'u1', name: 'Start', category: 'Shop', properties },
    group: { type: 'group', userId: 'u1', groupId: 'g1', traits: { plan: 'pro' } },
    alias: { type: 'alias', userId: 'u2', previousId: 'u1' },
  })))
})

test('a batch is one request without preflight, with the key and the time of sending inside', async (t) => {
  const { collector, analytics } = await setUp(t)
  for (const name of ['a', 'b', 'c']) analytics.track(name)
  const [request] = await until(() => collector.requests.length && collector.requests)
  assert.equal(`${request.method} ${request.url}`, 'POST /v1/batch')
  assert.equal(request.headers['content-type'], 'text/plain;charset=UTF-8')
  assert.equal(request.headers.authorization, undefined)
  assert.deepEqual(Object.keys(request.body), ['writeKey', 'sentAt', 'batch'])
  assert.equal(request.body.writeKey, 'key')
  assert.match(request.body.sentAt, TIME)
  assert.deepEqual(request.body.batch.map(({ event }) => event), ['a', 'b', 'c'])
})

test('a full batch does not wait for the interval', async (t) => {
  const { collector, analytics } = await setUp(t, { flushAt: 3, flushInterval: 60_000 })
  for (const name of ['a', 'b', 'c']) analytics.track(name)
  await until(() => collector.events().length === 3)
})

test('a host may have a path', async (t) => {
  for (const end of ['', '/']) {
    const collector = await startCollector(t)
    const plugin = eventrouter({ writeKey: 'key', host: `${collector.host}/e${end}` })
    const { track, plugins } = Analytics({ plugins: [plugin] })
    track('a')
    await plugins.eventrouter.flush()
    assert.equal(collector.requests[0].url, '/e/v1/batch')
  }
})

test('a server without a user is one anonymous visitor; with one, it ties nobody to itself', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  analytics.track('a')
  analytics.track('b', {}, { userId: 'u1' })
  analytics.track('c', { userId: 'u2' })
  analytics.track('d', {}, { userId: 'u3', anonymousId: 'a3' })
  analytics.track('e', {}, { anonymousId: 'a4' })
  await eventrouter.flush()
  const who = collector.events().map(({ userId, anonymousId }) => [userId, anonymousId])
  assert.match(who[0][1], /.{36}/)
  assert.equal(who[0][0], undefined)
  assert.deepEqual(who.slice(1), [['u1', undefined], ['u2', undefined], ['u3', 'a3'], [undefined, 'a4']])
})

test("a call's options say more about its event", async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  const options = { timestamp: '2026-01-02T03:04:05Z', integrations: { All: false }, context: { ip: '192.0.2.1' } }
  analytics.track('a', {}, options)
  await eventrouter.flush()
  const [{ timestamp, integrations, context }] = collector.events()
  assert.equal(timestamp, '2026-01-02T03:04:05.000Z')
  assert.deepEqual(integrations, { All: false })
  assert.deepEqual(context, { library: { name: 'eventrouter.js', version: VERSION }, ip: '192.0.2.1' })
})

test('what is called in one breath is told as it was at each call', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  analytics.track('before')
  eventrouter.consent({ marketing: true })
  analytics.identify('u1')
  analytics.track('known')
  analytics.reset()
  analytics.track('after')
  await eventrouter.flush()
  const events = new Map(collector.events().map((event) => [event.event || event.type, event]))
  const ids = ['before', 'known', 'after'].map((name) => events.get(name).userId)
  assert.deepEqual(ids, [undefined, 'u1', undefined])
  assert.notEqual(events.get('before').anonymousId, events.get('after').anonymousId)
  assert.equal(events.get('before').context.consent, undefined)
  assert.deepEqual(events.get('known').context.consent, { categoryPreferences: { marketing: true } })
})

test('consent grows with what is said, from what held before', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t, { consent: { analytics: true, marketing: true } })
  eventrouter.consent({ marketing: false })
  eventrouter.consent({ chat: true })
  analytics.track('a')
  await eventrouter.flush()
  const { categoryPreferences } = collector.events()[0].context.consent
  assert.deepEqual(categoryPreferences, { analytics: true, marketing: false, chat: true })
})

for (const failure of [
  { status: 503 },
  { status: 500, body: 'oops' },
  { status: 408 },
  { status: 429 },
  { hangUp: true },
  { status: 200, body: '<h1>Log in to the hotel network</h1>' },
  { status: 302, headers: { location: '/login' } },
  { status: 404, body: '<h1>404 Not Found</h1>' },
  { status: 403, body: { message: 'Forbidden' } },
  { status: 400, body: 'null' },
]) {
  test(`events are sent again, unchanged, after ${JSON.stringify(failure)}`, async (t) => {
    const { collector, analytics } = await setUp(t)
    collector.answers.push(failure, failure)
    analytics.track('a')
    analytics.track('b')
    await until(() => collector.requests.length === 3)
    const [first, ...again] = collector.requests.map(({ body }) => body.batch)
    assert.deepEqual(again, [first, first])
    assert.equal(collector.answers.length, 0)
  })
}

for (const [status, message] of [[400, 'no'], [401, 'unknown write key'], [403, 'off'], [413, 'too large']]) {
  test(`an event that is refused by ${status} is not sent again, and the console says so`, async (t) => {
    const { collector, analytics, eventrouter } = await setUp(t)
    const said = t.mock.method(console, 'error', () => {})
    collector.answers.push({ status, body: { code: 'x', message } })
    analytics.track('a')
    assert.equal(await eventrouter.flush(), true)
    assert.equal(collector.requests.length, 1)
    assert.match(said.mock.calls[0].arguments[0], new RegExp(`1 events were refused, HTTP ${status}: ${message}`))
  })
}

test('a batch that is too large for the server goes in halves', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  collector.answers.push({ status: 413 }, { status: 413 })
  for (const name of ['a', 'b', 'c', 'd']) analytics.track(name)
  assert.equal(await eventrouter.flush(), true)
  assert.deepEqual(collector.requests.map(({ body }) => body.batch.length), [4, 2, 1, 1, 1, 1])
})

test('a batch that is too large for a proxy on the way goes in halves, and an event that is, not at all', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  const said = t.mock.method(console, 'error', () => {})
  const tooLarge = { status: 413, body: '<h1>413 Request Entity Too Large</h1>' }
  collector.answers.push(tooLarge, tooLarge)
  for (const name of ['a', 'b']) analytics.track(name)
  assert.equal(await eventrouter.flush(), true)
  assert.deepEqual(collector.requests.map(({ body }) => body.batch.length), [2, 1, 1])
  assert.equal(said.mock.callCount(), 1)
})

test('one event that the server refuses is told in the console and costs no other', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  const said = t.mock.method(console, 'warn', () => {})
  const rejected = [{ index: 0, code: 'event_too_large', message: 'the event is larger than 32768 bytes' }]
  collector.answers.push({ status: 200, body: { success: true, rejected } })
  analytics.track('a')
  assert.equal(await eventrouter.flush(), true)
  const [[text]] = said.mock.calls.map((call) => call.arguments)
  assert.equal(text, 'eventrouter: event_too_large: the event is larger than 32768 bytes')
})

for (const [form, after] of [
  ['seconds', () => '1'],
  ['a date', () => new Date(Date.now() + 2_000).toUTCString()],
]) {
  test(`Retry-After is waited for, as ${form}, whoever asks for a flush`, async (t) => {
    const { collector, analytics, eventrouter } = await setUp(t)
    collector.answers.push({ status: 429, headers: { 'retry-after': after() } })
    analytics.track('a')
    assert.equal(await eventrouter.flush(), false)
    assert.equal(await eventrouter.flush(), false)
    assert.equal(collector.requests.length, 1)
    await until(() => collector.requests.length === 2)
    const [first, second] = collector.requests
    assert.ok(second.at - first.at > 900, `${second.at - first.at} ms`)
  })
}

test('the waits between tries grow, and are drawn by lot', async (t) => {
  const { collector, analytics } = await setUp(t, { retry: { initial: 20, max: 160 } })
  const lots = t.mock.method(Math, 'random', () => 1)
  collector.answers.push(...Array.from({ length: 5 }, () => ({ status: 503 })))
  analytics.track('a')
  await until(() => collector.requests.length === 6)
  const waits = collector.requests.slice(1).map(({ at }, index) => at - collector.requests[index].at)
  for (const [index, least] of [20, 40, 80, 160, 160].entries()) assert.ok(waits[index] >= least - 2, String(waits))
  assert.ok(lots.mock.callCount() >= 5)
})

test('a flush on demand does not wait as a failure would', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t, { retry: { initial: 1_000_000, max: 1_000_000 } })
  collector.answers.push({ status: 503 })
  analytics.track('a')
  assert.equal(await eventrouter.flush(), false)
  assert.equal(await eventrouter.flush(), true)
  assert.equal(collector.requests.length, 2)
})

test('large events go in several requests, each small enough to outlive a page', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  for (let number = 0; number < 10; number++) analytics.track('a', { text: 'ü'.repeat(10_000) })
  assert.equal(await eventrouter.flush(), true)
  assert.deepEqual(collector.requests.map(({ body }) => body.batch.length), [2, 2, 2, 2, 2])
})

test('a call that JSON cannot hold is told in the console and costs no other', async (t) => {
  const { collector, analytics, eventrouter } = await setUp(t)
  const said = t.mock.method(console, 'error', () => {})
  const circle = {}
  circle.circle = circle
  analytics.track('a', circle)
  analytics.track('b', { big: 1n })
  analytics.track('c', {}, { timestamp: 'never' })
  analytics.track('d')
  await eventrouter.flush()
  assert.deepEqual(collector.events().map(({ event }) => event), ['d'])
  assert.equal(said.mock.callCount(), 3)
})

test('a call that is not for this plugin, or that another plugin aborts, is not sent', async (t) => {
  const collector = await startCollector(t)
  const picky = { name: 'picky', trackStart: ({ payload, abort }) => (payload.event === 'b' ? abort('no') : payload) }
  const plugin = eventrouter({ writeKey: 'key', host: collector.host })
  const analytics = Analytics({ plugins: [picky, plugin] })
  analytics.track('a', {}, { plugins: { eventrouter: false } })
  analytics.track('b')
  analytics.track('c')
  await analytics.plugins.eventrouter.flush()
  assert.deepEqual(collector.events().map(({ event }) => event), ['c'])
})

test('the reducers keep the last call alone', async (t) => {
  const { analytics } = await setUp(t)
  for (const name of ['a', 'b']) await analytics.track(name)
  await analytics.page({ title: 'Home' })
  assert.equal(analytics.getState('track.last').event, 'b')
  assert.equal(analytics.getState('page.last').properties.title, 'Home')
  assert.deepEqual(analytics.getState('track.history'), [])
})

test('without a write key or a host there is no plugin', () => {
  for (const options of [undefined, {}, { writeKey: 'key' }, { host: 'https://events.example.com' }]) {
    assert.throws(() => eventrouter(options), /`writeKey` and `host` are needed/)
  }
})
