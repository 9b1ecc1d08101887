/** @type {import("@sveltejs/vite-plugin-svelte").SvelteConfig} */
export default {
  compilerOptions: {
    // The policy of the pages forbids innerHTML (Trusted Types): templates are built node by node.
    fragments: "tree",
    runes: true,
  },
};
