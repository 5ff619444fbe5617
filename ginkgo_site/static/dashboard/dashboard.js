// Entry point. Every page works without it; with it figures are live and forms open as dialogs.

import { startAccordion } from "./accordion.js";
import { startAlerts } from "./alerts.js";
import { startBoard } from "./board.js";
import { startClocks } from "./clocks.js";
import { startCopy } from "./copy.js";
import { startDialogs } from "./dialogs.js";
import { startDrag } from "./drag.js";
import { startKeyboard } from "./keyboard.js";
import { startKeys } from "./keys.js";
import { startLiveSocket } from "./live_socket.js";
import { startMenus } from "./menus.js";
import { startNarrowTables } from "./narrow_tables.js";
import { startPalette } from "./palette.js";
import { startPortfolioForm } from "./portfolio_form.js";
import { startRefresh } from "./refresh.js";
import { startSelection } from "./selection.js";
import { startThemeToggle } from "./theme-toggle.js";
import { startTimes } from "./times.js";

startThemeToggle();
startTimes();
startNarrowTables();
startMenus();
startDialogs();
startPortfolioForm();
startBoard();
startAccordion();
startKeyboard();
startSelection();
startDrag();
startPalette();
startKeys();
startCopy();
startClocks();
startLiveSocket();
startRefresh();
startAlerts();
