import { expect, it } from "vitest";
import { brandingFrom, tenantOf, tenantOfUser } from "../src/branding.svelte.js";

it("takes the tenant of the address, else the one that was kept", () => {
  expect(tenantOf("?tenant=school", "other")).toBe("school");
  expect(tenantOf("", "other")).toBe("other");
  expect(tenantOf("", null)).toBe("");
  for (const wrong of ["?tenant=", "?tenant=-x", "?tenant=../x", "?tenant=School", `?tenant=${"x".repeat(41)}`]) {
    expect(tenantOf(wrong, null)).toBe("");
  }
  expect(tenantOfUser("tenants/school/users/ana")).toBe("school");
  expect(tenantOfUser("")).toBe("");
});

it("shows what was chosen and Vidi's own look for the rest", () => {
  const school = brandingFrom({ name: "Lakeside", accent: "#7a1f3d", accent_dark: "", logo: true }, "school");
  expect(school).toEqual({
    name: "Lakeside",
    accent: "#7a1f3d",
    accentDark: "#8ab6f9",
    logo: "/branding/school/logo",
  });
  const vidi = brandingFrom({}, "");
  expect(vidi.name).toBe("Vidi");
  for (const wrong of [null, 7, "x", { name: "x".repeat(41), accent: "red;", accent_dark: 5, logo: "javascript:" }]) {
    expect(brandingFrom(wrong, "")).toEqual(vidi);
  }
});
