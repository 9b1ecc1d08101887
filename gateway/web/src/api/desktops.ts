// The desktops' service, apart so that the menu does not wait for it.

import { createClient } from "@connectrpc/connect";
import { DesktopService } from "../gen/vidi/v1/desktops_pb.js";
import { transport } from "./services.js";

export const desktops = createClient(DesktopService, transport);
