/**
 * What stands in for `analytics-utils` in the built file: the same functions, as far as `analytics` uses them, with two
 * differences. Ids are not made by `Math.random`. And the page's address says nothing: `analytics` takes `?an_uid=…`
 * and the like for calls, so that a link could make a visitor someone else.
 */

export { uuid } from './uuid.js'

export const paramsParse = () => ({})

export const dotProp = (object, path) => path.split('.').reduce((value, name) => value && value[name], object)

export const getBrowserLocale = () => navigator.language

export const getTimeZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone
