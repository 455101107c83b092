// Before the page is drawn, so that a chosen theme does not flash: light, dark, or (nothing kept) the system's.
try {
  const kept = localStorage.getItem("valuerec-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // Storage may be forbidden; then the system's theme holds.
}
