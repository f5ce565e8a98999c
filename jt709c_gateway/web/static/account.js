// The user in the header, and the way out.

import { h, setChildren } from "./dom.js";

/** The user that the gateway accepts for logging out alone. */
const NOBODY = "logged out";

/** Show the user of these rights; `leaving` is called before the page is left. */
export function showAccount(element, rights, leaving) {
  if (!rights.name) return;
  const out = h(
    "button",
    {
      type: "button",
      class: "button small",
      on: {
        click: () => {
          leaving();
          logOut();
        },
      },
    },
    "Log out",
  );
  setChildren(
    element,
    h("span", { class: "user-name", title: `${rights.name}, ${rights.role}` }, rights.name),
    h("small", {}, rights.role),
    out,
  );
  element.hidden = false;
}

/** Have the browser accept another user in place of this one: it has no other way to forget a password. */
function logOut() {
  const request = new XMLHttpRequest();
  request.open("GET", new URL("logout", document.baseURI), true, NOBODY, "x");
  request.onloadend = () => location.replace(request.status === 200 ? "logged-out" : "logout");
  request.send();
}
