// The desk's script. Every page works without it; with it figures are live and forms are dialogs.
import { startClocks } from "./clocks.js";
import { startColumns } from "./columns.js";
import { startCopy } from "./copy.js";
import { startDialogs } from "./dialogs.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
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
