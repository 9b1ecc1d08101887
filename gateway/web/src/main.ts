// The page's entry.

import { mount } from "svelte";
import App from "./App.svelte";
import { applyBranding } from "./branding.svelte.js";
import "./ui/tokens.css";
import "./ui/base.css";

applyBranding(document.documentElement);
const target = document.getElementById("app");
if (target === null) {
  throw new Error("index.html has no element #app");
}
mount(App, { target });
