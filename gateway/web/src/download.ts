// Files that the page makes for the person.

/** The browser may look for the file only after the click is over. */
const KEPT_MS = 1000;

/** Hands a file to the browser, which keeps it or opens it with its program. */
export function saveFile(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}
