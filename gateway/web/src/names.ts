// The names of the API's resources, taken apart.

/** The last segment of a resource name. */
export function lastSegment(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

/** `tenants/{t}` of a resource name in it; the first tenant where the name has none. */
export function tenantOf(name: string): string {
  return /^tenants\/[^/]+/.exec(name)?.[0] ?? "tenants/default";
}
