import type { AnalyticsPlugin } from 'analytics'

export interface Options {
  /** The write key of a source in routes.yaml. */
  writeKey: string
  /** Where the collector is, with its path prefix if it has one: `https://events.example.com`. */
  host: string
  /** Send when so many events wait. Default: 20. */
  flushAt?: number
  /** Send at the latest after so many milliseconds. Default: 1,000. */
  flushInterval?: number
  /** Milliseconds between tries: drawn by lot below a bound that doubles from `initial` to `max`. */
  retry?: { initial?: number; max?: number }
  /** How many events may wait; the oldest go first. Default: 1,000. */
  maxEvents?: number
  /** How many bytes of events may wait. Default: 2,000,000. */
  maxBytes?: number
  /** How many milliseconds an event may wait. Default: a week. */
  maxAge?: number
  /** The name of the cookie with the anonymous id, or `false` for none. Default: `er_anonymous_id`. */
  cookie?: string | false
  /** The cookie's domain. Default: the widest that the browser allows. */
  cookieDomain?: string
  /** What holds for categories of consent of which `consent` was never told. Default: nothing, which means no. */
  consent?: Record<string, boolean>
  /** Signals of the browser that switch everything off: Global Privacy Control, Do Not Track. Default: none. */
  respect?: Array<'gpc' | 'dnt'>
  /** Whether what stands behind `#` is part of a page's address. Default: no. */
  hash?: boolean
}

/** The third argument of `track`, `identify` and `group`, the second of `page`: more about the event. */
export interface EventOptions {
  userId?: string
  anonymousId?: string
  /** When it happened, if not now. */
  timestamp?: Date | string | number
  /** Adds to the event's context. */
  context?: Record<string, unknown>
  /** Segment's `integrations`. */
  integrations?: Record<string, unknown>
}

/**
 * What `analytics.plugins.eventrouter` has. The types of `analytics` know nothing of plugins' methods:
 * `(analytics.plugins as unknown as { eventrouter: Methods }).eventrouter.flush()`.
 */
export interface Methods {
  group(groupId: string, traits?: Record<string, unknown>, options?: EventOptions): void
  /** Says that `userId` is who was `previousId`: without one, the current user or visitor. */
  alias(userId: string, previousId?: string, options?: EventOptions): void
  /** Tells what the visitor agrees to, by category. It is remembered, and adds to what was told before. */
  consent(preferences: Record<string, boolean>): void
  /** Sends what waits; resolves to whether nothing is left. Never rejects. */
  flush(): Promise<boolean>
}

/** A plugin for `analytics` that sends its events to eventrouter. */
export default function eventrouter(options: Options): AnalyticsPlugin

/** Reducers for `analytics` that keep the last call alone: for pages and processes that live long. The types of
 * `analytics` leave the option `reducers` out: `Analytics({ … } as any)`. */
export const reducers: Record<'track' | 'page', (state: any, action: any) => any>

export function isRefused(signals?: Array<'gpc' | 'dnt'>): boolean

export const VERSION: string
