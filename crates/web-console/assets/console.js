// Replaces the live part of the page with what the server sends; nothing is computed here.
"use strict";
const page = document.getElementById("live");
const connection = document.getElementById("connection");
const language = document.documentElement.lang;
const events = new EventSource("/live?lang=" + encodeURIComponent(language));
events.onmessage = (event) => {
  page.innerHTML = event.data;
  connection.textContent = document.body.dataset.live;
  connection.classList.remove("stale");
};
events.onerror = () => {
  connection.textContent = document.body.dataset.stale;
  connection.classList.add("stale");
};
