// The services that only the admin page calls.

import { createClient } from "@connectrpc/connect";
import { HostService } from "../gen/vidi/v1/hosts_pb.js";
import { MachineService } from "../gen/vidi/v1/machines_pb.js";
import { OperationService } from "../gen/vidi/v1/operations_pb.js";
import { PoolService } from "../gen/vidi/v1/pools_pb.js";
import { TemplateService } from "../gen/vidi/v1/templates_pb.js";
import { TenantService } from "../gen/vidi/v1/tenants_pb.js";
import { UsageService } from "../gen/vidi/v1/usage_pb.js";
import { UserService } from "../gen/vidi/v1/users_pb.js";
import { transport } from "./services.js";

export const hosts = createClient(HostService, transport);
export const machines = createClient(MachineService, transport);
export const operations = createClient(OperationService, transport);
export const pools = createClient(PoolService, transport);
export const templates = createClient(TemplateService, transport);
export const tenants = createClient(TenantService, transport);
export const usages = createClient(UsageService, transport);
export const users = createClient(UserService, transport);

/** Rows asked for at once, and pages after which a list is cut: 20,000 rows are beyond this page. */
const PAGE_SIZE = 1000;
const PAGES_MAX = 20;

/** All rows of a paged list: what it is asked for, and which part of an answer they are. */
export async function all<Answer extends { readonly nextPageToken: string }, Row>(
  ask: (page: { readonly pageSize: number; readonly pageToken: string }) => Promise<Answer>,
  rowsOf: (answer: Answer) => readonly Row[],
): Promise<Row[]> {
  const rows: Row[] = [];
  let pageToken = "";
  for (let count = 0; count < PAGES_MAX; count++) {
    const answer = await ask({ pageSize: PAGE_SIZE, pageToken });
    rows.push(...rowsOf(answer));
    pageToken = answer.nextPageToken;
    if (pageToken === "") {
      break;
    }
  }
  return rows;
}
