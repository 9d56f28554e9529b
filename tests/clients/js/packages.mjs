// The libraries under test, unmodified, from where .ci/setup installs them.
import { createRequire } from "node:module";

const installed = createRequire(new URL("../../../.test-env/", import.meta.url));

export const { Centrifuge } = installed("centrifuge");
export const WebSocket = installed("ws");
export const { chromium } = installed("playwright-core");

// What a page loads in a <script>.
export const CENTRIFUGE_FOR_PAGES = installed.resolve("centrifuge").replace("build/index.js", "dist/centrifuge.js");
