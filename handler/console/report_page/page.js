"use strict";
// Shows, searches and sorts the table. Data is only ever inserted as textContent.
(() => {
  const DELETED = 0, SIDE = 1, USER = 2, CONNECTOR = 3, LINE = 4, CHAT = 5;
  const MESSAGE = 6, IM_CHAT = 7, TEXT = 8, NOTES = 9, PORTAL = 10, ID = 11;
  const SIDES = ["staff", "customer"];
  const PAGE = 100;
  const ON_PAPER = 2000;
  const FOLDED = 300; // characters; longer texts are collapsed

  const byId = (id) => document.getElementById(id);
  const { portals, rows } = JSON.parse(byId("data").textContent);
  const table = byId("table");
  const search = byId("search");
  const side = byId("side");
  const titles = [...table.tHead.rows[0].cells];
  const hasText = titles.some((title) => title.textContent === "Text");
  const hasPortals = titles.some((title) => title.textContent === "Portal");

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  // On a phone, a row is laid out as a card, but it is still a table row.
  const withRole = (made, role) => {
    made.setAttribute("role", role);
    return made;
  };
  const orDash = (value) => (value === null || value === "" ? "–" : value);
  const address = (row, path) => `https://${portals[row[PORTAL]][1]}${path}`;
  const link = (text, href) => {
    const made = element("a", text);
    made.href = href;
    made.target = "_blank";
    made.rel = "noopener noreferrer";
    return made;
  };

  const byCell = (row, cell) => {
    const by = element("span", `${SIDES[row[SIDE]]} `, row[SIDE] ? "customers" : "staff");
    const isLinked = row[USER] && !row[SIDE] && portals[row[PORTAL]][1];
    by.append(isLinked ? link(row[USER], address(row, `/company/personal/user/${row[USER]}/`)) : row[USER] ?? "");
    cell.append(by);
  };
  const lineCell = (row, cell) => {
    const line = element("span", undefined, "line");
    line.append(element("bdi", orDash(row[CONNECTOR])), ", ", element("span", `line ${orDash(row[LINE])}`));
    cell.append(line);
  };
  const idCell = (cell, content) => {
    cell.className = "id";
    cell.dir = "auto";
    cell.append(content);
  };
  const chatCell = (row, cell) => {
    const chat = orDash(row[CHAT]);
    const isLinked = row[IM_CHAT] && portals[row[PORTAL]][1];
    idCell(cell, isLinked ? link(chat, address(row, `/online/?IM_DIALOG=chat${row[IM_CHAT]}`)) : chat);
  };
  const messageCell = (row, cell) => {
    idCell(cell, orDash(row[MESSAGE]));
    cell.title = `record ${row[ID]}`;
  };
  const portalCell = (row, cell) => {
    cell.dir = "auto";
    cell.append(portals[row[PORTAL]][0]);
  };
  const textCell = (row, cell) => {
    const text = orDash(row[TEXT]);
    const paragraph = element("p", text);
    paragraph.dir = "auto";
    if (text.length > FOLDED) {
      const details = element("details");
      const summary = element("summary", `${text.slice(0, FOLDED).trimEnd()}…`);
      summary.dir = "auto";
      details.append(summary, paragraph);
      cell.append(details);
    } else {
      cell.append(paragraph);
    }
    if (row[NOTES]) {
      const notes = element("small", row[NOTES]);
      notes.dir = "auto";
      cell.append(notes);
    }
    cell.className = "text";
  };

  const columns = [
    { value: (row) => row[DELETED] },
    { value: (row) => `${SIDES[row[SIDE]]} ${row[USER] ?? ""}`, fill: byCell },
    { value: (row) => `${orDash(row[CONNECTOR])}, line ${orDash(row[LINE])}`, fill: lineCell },
    { value: (row) => row[CHAT], fill: chatCell },
    { value: (row) => row[MESSAGE], fill: messageCell },
    ...(hasText ? [{ value: (row) => row[TEXT], fill: textCell }] : []),
    ...(hasPortals ? [{ value: (row) => portals[row[PORTAL]][0], fill: portalCell }] : []),
  ];

  const state = { column: 0, ascending: false, page: 0, found: rows.map((_, place) => place) };

  const show = (size = PAGE) => {
    const start = state.page * PAGE;
    const body = document.createDocumentFragment();
    for (const place of state.found.slice(start, start + size)) {
      const row = rows[place];
      const line = withRole(element("tr"), "row");
      columns.forEach((column, number) => {
        const cell = withRole(element("td"), "cell");
        cell.dataset.title = titles[number].dataset.title;
        if (column.fill) column.fill(row, cell);
        else cell.append(column.value(row));
        line.append(cell);
      });
      body.append(line);
    }
    table.tBodies[0].replaceChildren(body);
    const count = state.found.length;
    const last = Math.min(start + size, count);
    const of = count === rows.length ? "" : ` found, of ${rows.length.toLocaleString("en")}`;
    byId("status").textContent = count
      ? `${(start + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${count.toLocaleString("en")}${of}`
      : `None of ${rows.length.toLocaleString("en")} deletions matches.`;
    byId("first").disabled = byId("previous").disabled = start === 0;
    byId("last").disabled = byId("next").disabled = last >= count;
    byId("pages").hidden = count <= PAGE;
  };

  const numbers = new Intl.Collator(undefined, { numeric: true });
  const compare = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    return numbers.compare(one, other);
  };
  const isMissing = (value) => value === null || value === "";
  const sort = () => {
    const { value } = columns[state.column];
    if (state.column === 0) {
      state.found.sort((one, other) => (state.ascending ? other - one : one - other));
    } else {
      const sign = state.ascending ? 1 : -1;
      state.found.sort((one, other) => {
        const [a, b] = [value(rows[one]), value(rows[other])];
        if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b) || one - other;
        return sign * compare(a, b) || one - other;
      });
    }
    titles.forEach((title, number) => {
      if (number === state.column) {
        title.setAttribute("aria-sort", state.ascending ? "ascending" : "descending");
      } else {
        title.removeAttribute("aria-sort");
      }
    });
  };

  let index = null;
  const indexed = () => {
    index ??= rows.map((row) => [
      row[DELETED], SIDES[row[SIDE]], row[USER], row[CONNECTOR], row[LINE], row[CHAT],
      row[MESSAGE], row[TEXT], row[NOTES], portals[row[PORTAL]][0], row[ID],
    ].join("\n").toLowerCase());
    return index;
  };
  const find = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.found = [];
    rows.forEach((row, place) => {
      if (side.value !== "" && row[SIDE] !== Number(side.value)) return;
      if (words.every((word) => indexed()[place].includes(word))) state.found.push(place);
    });
    state.page = 0;
    sort();
    show();
  };

  withRole(table, "table");
  [table.tHead, table.tBodies[0]].forEach((part) => withRole(part, "rowgroup"));
  withRole(table.tHead.rows[0], "row");
  titles.forEach((title, number) => {
    withRole(title, "columnheader");
    const button = element("button", title.textContent);
    title.dataset.title = title.textContent;
    button.type = "button";
    button.addEventListener("click", () => {
      state.ascending = state.column === number ? !state.ascending : number !== 0;
      state.column = number;
      state.page = 0;
      sort();
      show();
    });
    title.replaceChildren(button);
  });
  const turn = (id, page) => byId(id).addEventListener("click", () => {
    state.page = page();
    show();
    table.scrollIntoView();
  });
  const lastPage = () => Math.max(0, Math.ceil(state.found.length / PAGE) - 1);
  turn("first", () => 0);
  turn("previous", () => state.page - 1);
  turn("next", () => state.page + 1);
  turn("last", lastPage);

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(find, 150);
  });
  side.addEventListener("change", find);
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });
  addEventListener("beforeprint", () => show(ON_PAPER));
  addEventListener("afterprint", () => show());

  table.caption.textContent = `${table.caption.textContent} Click a column title to sort by it.`;
  byId("controls").hidden = false;
  sort();
  show();
})();
