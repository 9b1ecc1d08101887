// What a person's roles let them see and do here. The controller decides; this only spares people
// buttons that would be refused.

/** What the admin page shows and offers. */
export interface Rights {
  /** The page is for this person at all: the tenant's desktops, their hours, its people. */
  readonly see: boolean;
  readonly createDesktop: boolean;
  /** Start, stop, restart. */
  readonly power: boolean;
  readonly destroyDesktop: boolean;
  readonly seeHosts: boolean;
  readonly changeHosts: boolean;
  readonly changeUsers: boolean;
  /** Physical machines. */
  readonly changeMachines: boolean;
  readonly changePools: boolean;
  /** What was recorded, in the own tenant. */
  readonly seeRecordings: boolean;
  /** Roles that this person may give. */
  readonly roles: readonly Role[];
}

export type Role = "operator" | "installation-auditor" | "admin" | "helpdesk" | "auditor" | "user";

const TENANT_ROLES: readonly Role[] = ["user", "helpdesk", "auditor", "admin"];
const ALL_ROLES: readonly Role[] = [...TENANT_ROLES, "operator", "installation-auditor"];

/** What these roles of `WhoAmI` mean here. */
export function rightsOf(roles: readonly string[]): Rights {
  const has = (...wanted: Role[]) => wanted.some((role) => roles.includes(role));
  const manages = has("operator", "admin");
  const helps = manages || has("helpdesk");
  return {
    see: helps || has("auditor", "installation-auditor"),
    createDesktop: helps,
    power: helps,
    destroyDesktop: helps,
    seeHosts: has("operator", "installation-auditor"),
    changeHosts: has("operator"),
    changeUsers: manages,
    changeMachines: manages,
    changePools: manages,
    seeRecordings: has("admin", "auditor"),
    roles: has("operator") ? ALL_ROLES : TENANT_ROLES,
  };
}
