// Keeps the page itself (not what it shows) and the text on the method for times without a network.
const CACHE = "var-dd-{{version}}";
const ASSETS = ["{{theme}}", "{{style}}", "{{icon}}", "{{translation}}", "{{module}}", "{{wasm}}", "{{script}}"].concat("{{parts}}".split(" "));

const root = new URL(self.registration.scope).pathname;
const shell = `${root}offline-shell`;
const method = `${root}method.html`;

async function keep() {
  const cache = await caches.open(CACHE);
  const text = new Request(method, { cache: "no-cache" });
  await cache.addAll([...ASSETS.map((path) => root + path), text]);
  const page = await fetch(root, { cache: "no-cache" });
  if (!page.ok) throw new Error(`the page answers with status ${page.status}`);
  // It is shown at deeper addresses too, where relative ones would lead elsewhere.
  const html = (await page.text()).replaceAll('="./', `="${root}`);
  const headers = new Headers(page.headers);
  for (const name of ["content-encoding", "content-length", "etag"]) headers.delete(name);
  await cache.put(shell, new Response(html, { headers }));
  await self.skipWaiting();
}

async function clean() {
  for (const name of await caches.keys()) {
    if (name.startsWith("var-dd-") && name !== CACHE) await caches.delete(name);
  }
  await self.clients.claim();
}

const navigate = async (request) => {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await caches.match(new URL(request.url).pathname === method ? method : shell);
    if (!kept) throw error;
    return kept;
  }
};

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(clean()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin || !pathname.startsWith(root)) return;
  const path = pathname.slice(root.length);
  if (request.mode === "navigate" && !path.startsWith("api/")) {
    event.respondWith(navigate(request));
  } else if (path.startsWith("assets/")) {
    event.respondWith(caches.match(request).then((kept) => kept ?? fetch(request)));
  }
});
