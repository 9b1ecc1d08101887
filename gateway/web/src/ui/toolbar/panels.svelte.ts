// Which panel of the toolbar is open: at most one.

import { getContext, setContext } from "svelte";

const KEY = Symbol("panels");

/** The open panel of one toolbar. */
export class Panels {
  /** The test id of the one that is open. */
  open = $state<string | undefined>();
}

/** Called by the toolbar. */
export function providePanels(): Panels {
  return setContext(KEY, new Panels());
}

/** Called by what lies in the toolbar. */
export function usePanels(): Panels {
  return getContext<Panels>(KEY);
}
