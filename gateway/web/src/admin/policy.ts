// What passes between desktops and browsers, as a form has it: pure, for its tests.

import { ClipboardWays, type DisplayPolicy, Permission, Recording } from "../gen/vidi/v1/desktops_pb.js";

/** A display policy in the fields of a form. */
export interface PolicyWish {
  clipboard: ClipboardWays;
  files: boolean;
  sound: boolean;
  microphone: boolean;
  sharing: boolean;
  raw: boolean;
  recording: Recording;
  watermark: boolean;
}

/** What a policy that says nothing allows. */
export function policyWish(policy: DisplayPolicy | undefined): PolicyWish {
  const may = (permission: Permission | undefined, usual: boolean) =>
    permission === undefined || permission === Permission.UNSPECIFIED ? usual : permission === Permission.ALLOWED;
  return {
    clipboard: policy?.clipboard || ClipboardWays.BOTH,
    files: may(policy?.files, true),
    sound: may(policy?.sound, true),
    microphone: may(policy?.microphone, true),
    sharing: may(policy?.sharing, true),
    raw: may(policy?.raw, false),
    recording: policy?.recording || Recording.NEVER,
    watermark: policy?.watermark ?? false,
  };
}

export function policyFields(wish: PolicyWish) {
  const permission = (allowed: boolean) => (allowed ? Permission.ALLOWED : Permission.DENIED);
  const { clipboard, recording, watermark } = wish;
  return {
    clipboard,
    files: permission(wish.files),
    sound: permission(wish.sound),
    microphone: permission(wish.microphone),
    sharing: permission(wish.sharing),
    raw: permission(wish.raw),
    recording,
    watermark,
  };
}
