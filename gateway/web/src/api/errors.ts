// Why a call was refused, in the terms of the contract.

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import type { MessageKey } from "../messages/catalogue.js";
import { isMessageKey } from "../messages/catalogue.js";

/** A refused or failed call. */
export interface Failure {
  readonly signedOut: boolean;
  /** Nobody answered: trying again may help. */
  readonly unavailable: boolean;
  readonly notFound: boolean;
  /** A name of vidi.v1.ErrorReason without its prefix, or empty. */
  readonly reason: string;
  readonly message: string;
}

/** What any thrown value of a call means. */
export function failureOf(error: unknown): Failure {
  const failed = ConnectError.from(error);
  const reason = reasonOf(failed);
  return {
    signedOut: failed.code === Code.Unauthenticated || reason === "SIGNED_OUT",
    unavailable:
      failed.code === Code.Unavailable ||
      failed.code === Code.DeadlineExceeded ||
      // What fetch throws when there is no network.
      failed.cause instanceof TypeError,
    notFound: failed.code === Code.NotFound || reason === "NOT_FOUND",
    reason,
    message: failed.rawMessage,
  };
}

/** The message for people about a desktop that was not opened. */
export function openErrorKey(failure: Failure): MessageKey {
  const key = `open.error.${failure.reason}`;
  if (isMessageKey(key)) {
    return key;
  }
  if (failure.notFound) {
    return "open.error.NOT_FOUND";
  }
  return failure.unavailable ? "open.error.unavailable" : "open.error.other";
}

/** The `reason` of the google.rpc.ErrorInfo among the details. */
function reasonOf(error: ConnectError): string {
  for (const detail of error.details) {
    if ("value" in detail && "type" in detail && detail.type === "google.rpc.ErrorInfo") {
      const reason = firstString(detail.value as Uint8Array);
      if (reason !== undefined) {
        return reason;
      }
    }
  }
  return "";
}

/** Field 1 of an encoded message, as text: `ErrorInfo.reason`. */
function firstString(bytes: Uint8Array): string | undefined {
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag();
      if (field === 1 && wire === WireType.LengthDelimited) {
        return reader.string();
      }
      reader.skip(wire, field);
    }
  } catch {
    // A detail that cannot be read says nothing.
  }
  return undefined;
}
