/** A collector for tests: a real HTTP server that keeps what it is sent, and answers as a test tells it. */

import { once } from 'node:events'
import { createServer } from 'node:http'

const TAKEN = { status: 200, body: { success: true } }

/** Starts one that `test` (a TestContext) stops. `answers` are given one by one, and success after them. */
export async function startCollector(test) {
  const answers = []
  const requests = []
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const { method, url, headers } = request
    requests.push({ method, url, headers, at: Date.now(), body: JSON.parse(Buffer.concat(chunks)) })
    const { status, body = {}, headers: more, hangUp } = answers.shift() || TAKEN
    if (hangUp) return request.socket.destroy()
    response.writeHead(status, { 'content-type': 'application/json', ...more })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  test.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    host: `http://127.0.0.1:${server.address().port}`,
    answers,
    requests,
    /** All events of all requests. */
    events: () => requests.flatMap(({ body }) => body.batch),
  }
}

/** Waits until `condition` gives something true. */
export async function until(condition, milliseconds = 5_000) {
  const end = Date.now() + milliseconds
  for (;;) {
    const found = condition()
    if (found) return found
    if (Date.now() > end) throw new Error(`it did not happen in time: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
