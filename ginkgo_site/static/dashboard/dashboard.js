// The desk's script. Every page works without it; with it figures are live and forms are dialogs.

import { startColumns } from "./accordion.js";
import { startClocks } from "./clocks.js";
import { startCopy } from "./copy.js";
import { startDialogs } from "./dialogs.js";
import { startKeys } from "./keyboard.js";
import { startLive } from "./live_socket.js";
import { startMenus } from "./menus.js";
import { startRefresh } from "./refresh.js";
import { startThemeToggle } from "./theme-toggle.js";

startThemeToggle();
startMenus();
startDialogs();
startColumns();
startKeys();
startCopy();
startClocks();
startLive();
startRefresh();
