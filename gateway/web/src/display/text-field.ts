// The hidden field that on-screen keyboards and input methods write into. What they leave in it goes to the
// guest, and the field is as before.
//
// It always holds a few characters: some on-screen keyboards tell of Backspace in no other way than by taking
// one away.

/** Long enough for a keyboard that deletes a word at once; words end at a blank. */
export const FILLING = "\u00a0".repeat(16);

/** What happened to the field. */
export interface FieldChange {
  /** Characters taken away from before the caret. */
  readonly deleted: number;
  /** Text that was put there. */
  readonly inserted: string;
}

/** What has become of the field's filling. */
export function changeOf(value: string): FieldChange {
  let same = 0;
  while (same < FILLING.length && value[same] === FILLING[same]) {
    same += 1;
  }
  return { deleted: FILLING.length - same, inserted: value.slice(same) };
}

/** Where the field's decisions go. */
export interface FieldOutlets {
  text(text: string): void;
  /** Backspace was pressed so often. */
  backspace(count: number): void;
  /** What is being composed and not yet decided; "" when nothing is. */
  composing(text: string): void;
}

/** Watches one field; gives what ends that. */
export function watchField(field: HTMLTextAreaElement, outlets: FieldOutlets): () => void {
  let composing = false;

  const fill = () => {
    field.value = FILLING;
    field.setSelectionRange(FILLING.length, FILLING.length);
  };
  const take = () => {
    const { deleted, inserted } = changeOf(field.value);
    fill();
    if (deleted > 0) {
      outlets.backspace(deleted);
    }
    if (inserted !== "") {
      outlets.text(inserted);
    }
  };
  const handlers: Partial<Record<string, (event: Event) => void>> = {
    compositionstart: () => {
      composing = true;
    },
    compositionupdate: (event) => outlets.composing((event as CompositionEvent).data),
    compositionend: () => {
      composing = false;
      outlets.composing("");
      // Some browsers put the text into the field after this event and tell so by `input`.
      queueMicrotask(() => !composing && take());
    },
    input: (event) => {
      if (!composing && !(event as InputEvent).isComposing) {
        take();
      }
    },
    focus: fill,
    blur: () => {
      composing = false;
      outlets.composing("");
      fill();
    },
  };
  for (const [name, handler] of Object.entries(handlers)) {
    field.addEventListener(name, handler as EventListener);
  }
  fill();
  return () => {
    for (const [name, handler] of Object.entries(handlers)) {
      field.removeEventListener(name, handler as EventListener);
    }
  };
}

/** Whether an input method has this key: what comes of it is told by the field. */
export function isComposed(event: { isComposing: boolean; keyCode: number; key: string }): boolean {
  return event.isComposing || event.keyCode === 229 || event.key === "Process";
}
