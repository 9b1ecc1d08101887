// What the admin page knows and does: the watched desktops, the people and templates behind them,
// the changes that go on. The views only show it.

import { untrack } from "svelte";
import { all, operations, templates, users } from "../api/admin.js";
import { desktops } from "../api/desktops.js";
import { failureOf } from "../api/errors.js";
import { requestId, Requests } from "../api/requests.js";
import type { ReleasePolicy } from "../gen/vidi/v1/sessions_pb.js";
import type { Operation } from "../gen/vidi/v1/operations_pb.js";
import type { Template } from "../gen/vidi/v1/templates_pb.js";
import type { User } from "../gen/vidi/v1/users_pb.js";
import { lastSegment } from "../names.js";
import type { Row } from "./fleet.js";
import { watch } from "./watch.js";
import { after, type Kind, type Trouble, untold, type Work } from "./work.js";

/** How long one question for an operation's end waits; its stage is shown anew after it. */
const WAIT_SECS = 2;
/** Beyond WAIT_SECS: the way there and back. */
const WAIT_TIMEOUT_MS = 20_000;
/** The pause after a question that was not answered, and how often in a row that may be. */
const ASK_AGAIN_MS = 2000;
const ASK_AGAIN_MAX = 300;
/** People and templates change rarely. */
const BOOK_PERIOD_MS = 30_000;
/** Good news is no news after this. */
const NEWS_MS = 12_000;
/** How often "5 minutes ago" is looked at anew. */
const TICK_MS = 5000;

/** A sentence about what has happened, until it is dismissed or replaced. */
export interface News {
  readonly kind: "destroyed" | "made" | "failed";
  readonly title: string;
  readonly work: Work | undefined;
}

export class Office {
  rows = $state.raw<readonly Row[] | undefined>();
  /** The rows are as they are now. */
  live = $state(false);
  /** When they last were, in milliseconds. */
  liveAt = $state<number | undefined>();
  /** Why they cannot be seen at all. */
  refused = $state.raw<Trouble | undefined>();
  people = $state.raw<ReadonlyMap<string, User>>(new Map());
  templates = $state.raw<readonly Template[]>([]);
  /** Changes by the name of the desktop. */
  works = $state.raw<ReadonlyMap<string, Work>>(new Map());
  news = $state.raw<News | undefined>();
  now = $state(Date.now());
  private readonly creations = new Requests();

  constructor(
    readonly parent: string,
    private readonly signedOut: () => void,
  ) {}

  /** Begins to watch; the returned function ends it. */
  start(): () => void {
    return untrack(() => {
      const stop = watch({
        open: (resumeToken, signal) =>
          desktops.watchDesktops({ parent: this.parent, resumeToken }, { signal, timeoutMs: 0 }),
        rows: (rows) => {
          this.rows = rows;
          this.refused = undefined;
          this.tellUntold();
        },
        live: (live) => this.setLive(live),
        failed: (error) => this.watchFailed(error),
      });
      void this.loadBooks();
      const books = setInterval(() => void this.loadBooks(), BOOK_PERIOD_MS);
      const tick = setInterval(() => (this.now = Date.now()), TICK_MS);
      return () => {
        stop();
        clearInterval(books);
        clearInterval(tick);
      };
    });
  }

  /** The name that people know somebody by. */
  personName(user: string): string {
    return user === "" ? "" : this.people.get(user)?.displayName || lastSegment(user);
  }

  /** Everybody, in the order of their names, to choose from. */
  personChoices(language: string): { value: string; label: string; hint: string }[] {
    return Array.from(this.people.keys(), (name) => ({
      value: name,
      label: this.personName(name),
      hint: lastSegment(name),
    })).sort((one, other) => one.label.localeCompare(other.label, language));
  }

  templateName(template: string): string {
    const found = this.templates.find(({ name }) => name === template);
    return found?.displayName || lastSegment(template);
  }

  /** The people and templates of the tenant; what may not be seen stays empty. */
  async loadBooks(): Promise<void> {
    const { parent } = this;
    await Promise.all([
      this.quietly(async () => {
        const found = await all((page) => users.listUsers({ parent, ...page }), (part) => part.users);
        this.people = new Map(found.map((user) => [user.name, user]));
      }),
      this.quietly(async () => {
        this.templates = await all((page) => templates.listTemplates({ parent, ...page }), (part) => part.templates);
      }),
    ]);
  }

  /** Makes a desktop; gives its name. */
  async create(wanted: {
    template: string;
    displayName: string;
    assignedUser: string;
    start: boolean;
    releasePolicy: ReleasePolicy;
  }): Promise<string> {
    const operation = await desktops.createDesktop({
      ...wanted,
      parent: this.parent,
      requestId: this.creations.idOf(wanted),
    });
    this.creations.done();
    this.follow(operation, workOf("create", operation.target, wanted.displayName));
    return operation.target;
  }

  startDesktop(row: Row): Promise<void> {
    return this.act("start", row, (name, requestId) => desktops.startDesktop({ name, requestId }));
  }

  stopDesktop(row: Row, force: boolean): Promise<void> {
    return this.act("stop", row, (name, requestId) => desktops.stopDesktop({ name, requestId, force }));
  }

  restartDesktop(row: Row, force: boolean): Promise<void> {
    return this.act("restart", row, (name, requestId) =>
      desktops.restartDesktop({ name, requestId, force }),
    );
  }

  destroyDesktop(row: Row): Promise<void> {
    return this.act("delete", row, (name, requestId) => desktops.deleteDesktop({ name, requestId }));
  }

  /** What a thrown value means for people; a lost sign-in leads away from here. */
  troubleOf(error: unknown): Trouble {
    const failure = failureOf(error);
    if (failure.signedOut) {
      this.signedOut();
    }
    const reason = failure.reason || (failure.unavailable ? "UNAVAILABLE" : "");
    return { reason, message: failure.message };
  }

  dismiss(target: string): void {
    this.setWork(target, undefined);
  }

  private async act(
    kind: Kind,
    row: Row,
    ask: (name: string, requestId: string) => Promise<Operation>,
  ): Promise<void> {
    const work = workOf(kind, row.name, row.title);
    this.setWork(row.name, work);
    try {
      this.follow(await ask(row.name, requestId()), work);
    } catch (error) {
      this.setWork(row.name, { ...work, failure: this.troubleOf(error) });
    }
  }

  private follow(operation: Operation, work: Work): void {
    const known = after(work, operation);
    if (known === undefined || known.failure !== undefined) {
      this.settled(work, known);
      return;
    }
    this.setWork(known.target, known);
    void this.wait(known);
  }

  private async wait(work: Work): Promise<void> {
    let missed = 0;
    let known = work;
    while (missed < ASK_AGAIN_MAX) {
      try {
        const operation = await operations.waitOperation(
          { name: known.operation, timeoutSecs: WAIT_SECS },
          { timeoutMs: WAIT_TIMEOUT_MS },
        );
        missed = 0;
        const next = after(known, operation);
        if (next === undefined || next.failure !== undefined) {
          this.settled(known, next);
          return;
        }
        known = next;
        this.setWork(known.target, known);
      } catch (error) {
        const failure = failureOf(error);
        if (failure.signedOut || failure.notFound) {
          this.settled(known, { ...known, failure: this.troubleOf(error) });
          return;
        }
        missed += 1;
        await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
      }
    }
    this.setWork(known.target, undefined);
  }

  /** An operation has ended. */
  private settled(work: Work, end: Work | undefined): void {
    this.setWork(work.target, end);
    if (end !== undefined) {
      this.tellUntold();
    } else if (work.kind === "delete") {
      this.tell({ kind: "destroyed", title: work.title, work: undefined });
    } else if (work.kind === "create") {
      this.tell({ kind: "made", title: work.title, work: undefined });
    }
  }

  /** A row that is not there (any more) cannot say itself what has failed; it may go after its failure. */
  private tellUntold(): void {
    for (const work of untold(this.works.values(), this.rows ?? [])) {
      this.news = { kind: "failed", title: work.title, work };
      this.setWork(work.target, undefined);
    }
  }

  private tell(news: News): void {
    this.news = news;
    setTimeout(() => {
      if (this.news === news) {
        this.news = undefined;
      }
    }, NEWS_MS);
  }

  private setWork(target: string, work: Work | undefined): void {
    const works = new Map(this.works);
    if (work === undefined) {
      works.delete(target);
    } else {
      works.set(target, work);
    }
    this.works = works;
  }

  private setLive(live: boolean): void {
    this.live = live;
    if (live) {
      this.liveAt = Date.now();
    }
  }

  private watchFailed(error: unknown): boolean {
    const failure = failureOf(error);
    if (failure.signedOut) {
      this.signedOut();
      return false;
    }
    if (failure.reason === "NOT_ALLOWED") {
      this.refused = { reason: failure.reason, message: failure.message };
      return false;
    }
    return true;
  }

  private async quietly(load: () => Promise<void>): Promise<void> {
    try {
      await load();
    } catch (error) {
      if (failureOf(error).signedOut) {
        this.signedOut();
      }
    }
  }
}

function workOf(kind: Kind, target: string, title: string): Work {
  return { kind, target, title, operation: "", stage: "", failure: undefined };
}
