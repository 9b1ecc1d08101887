// The worker: an engine whose commands and events travel as messages.

import { Engine } from "./engine.js";
import type { EngineCommand, EngineEvent } from "./messages.js";
import { browserSurroundings } from "./surroundings.js";

/** The part of a dedicated worker's global scope that is used here. */
interface WorkerScope {
  postMessage(event: EngineEvent): void;
  onmessage: ((message: MessageEvent<EngineCommand>) => void) | null;
}

const scope = self as unknown as WorkerScope;
const engine = new Engine(browserSurroundings((event) => scope.postMessage(event)));
scope.onmessage = (message) => engine.command(message.data);
