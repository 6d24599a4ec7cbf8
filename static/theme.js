// Runs before the first paint: the chosen colours hold from the beginning.
try {
  const theme = JSON.parse(localStorage.getItem("var-dd.theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that denies storage, or something else under this name: the system's colours.
}
