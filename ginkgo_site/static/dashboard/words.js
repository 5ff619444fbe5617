// Texts of scripts in the language of the page. Their catalogue is a script before this one
// (scheduling/dashboard/views/language.py); in English there is none, and a text is its own translation.
export const gettext = globalThis.django?.gettext ?? ((text) => text);

// "%(left)s s" with {left: 5} → "5 s".
export function fill(text, values) {
  return text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
}

const STATES = {
  alive: gettext("alive"),
  suspect: gettext("suspect"),
  lost: gettext("lost"),
  left: gettext("left"),
  draining: gettext("draining"),
  pending: gettext("pending"),
  starting: gettext("starting"),
  running: gettext("running"),
  halted: gettext("halted"),
  quarantined: gettext("quarantined"),
  stopped: gettext("stopped"),
  failed: gettext("failed"),
  rolled_back: gettext("rolled back"),
  superseded: gettext("superseded"),
  place: gettext("place"),
  reload: gettext("reload"),
  migrate: gettext("migrate"),
  failover: gettext("failover"),
  stop: gettext("stop"),
  buy: gettext("buy"),
  sell: gettext("sell"),
  open: gettext("open"),
  cancelled: gettext("cancelled"),
  refused: gettext("refused"),
  suppressed: gettext("suppressed"),
};

// The reader's word for a status, phase, kind or state.
export function stateWord(state) {
  return STATES[state] ?? state.replace("_", " ");
}
