/**
 * Builds the file that pages load, and the licences of what is in it: `node build.mjs [DIRECTORY]`.
 *
 * The same sources give the same bytes: every version is pinned, and nothing of the machine or the time goes in.
 */

import { readFile, readdir, mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const target = process.argv[2] || join(here, '../src/eventrouter/browser')
const { version } = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'))
const modules = join(here, 'node_modules')

const { outputFiles, metafile } = await build({
  absWorkingDir: here,
  entryPoints: ['src/script.js'],
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2020',
  charset: 'utf8',
  legalComments: 'none',
  write: false,
  metafile: true,
  alias: {
    // Its browser build, in today's JavaScript: by its `exports` a bundler would find the one for servers.
    '@analytics/core': join(modules, '@analytics/core/dist/client/core.modern.js'),
    'analytics-utils': join(here, 'src/utils.js'),
  },
})

/** The packages of which something is in the file. */
const names = new Set(
  Object.entries(Object.values(metafile.outputs)[0].inputs)
    .filter(([, { bytesInOutput }]) => bytesInOutput)
    .map(([path]) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
    .filter(Boolean)
    .sort(),
)

const packages = await Promise.all(
  [...names].map(async (name) => {
    const folder = join(modules, name)
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one))
    const { version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
    return { name, version, license, text: (await readFile(join(folder, file), 'utf8')).replace(/\r/g, '').trim() }
  }),
)

const banner =
  `/*! eventrouter.js ${version}, Apache-2.0. Contains, under the MIT licence: ` +
  `${packages.map(({ name, version }) => `${name} ${version}`).join(', ')}. See eventrouter.js.LICENSES.txt. */\n`

const texts = new Map()
for (const { name, version, license, text } of packages) {
  if (license !== 'MIT') throw new Error(`${name} is under ${license}: the banner says MIT`)
  texts.set(text, [...(texts.get(text) || []), `${name} ${version}`])
}
const licenses = [...texts].map(([text, of]) => `${of.join('\n')}\n\n${text}\n`).join(`\n${'-'.repeat(80)}\n\n`)

const script = banner + outputFiles[0].text
await mkdir(target, { recursive: true })
await writeFile(join(target, 'eventrouter.js'), script)
await writeFile(join(target, 'eventrouter.js.LICENSES.txt'), licenses)
console.log(`eventrouter.js: ${script.length} bytes, ${gzipSync(script, { level: 9 }).length} gzipped`)
