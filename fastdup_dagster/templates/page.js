(() => {
  "use strict";
  const PER_PAGE = 60;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // the list is scrolled itself: scrollIntoView would also move where the first press of Tab goes
  const tab = document.querySelector("nav [aria-current]");
  const tabs = tab?.closest("ul");
  tabs?.scrollTo({ left: tab.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - tab.offsetWidth) / 2 });

  // a difference in a page with inlined pictures shows those of its own item, so that none is in the page twice
  all("img[data-copy]").forEach((image) => {
    const shots = all(".shot:not(.difference) img", image.closest("[data-item]"));
    image.src = shots[Number(image.dataset.copy)].getAttribute("src");
  });

  // filter by kind and by text, and paging: without this script every item is simply there
  const items = all("[data-item]");
  const tools = document.querySelector("[data-tools]");
  if (tools && items.length > 1) {
    const texts = items.map((item) => item.textContent.toLowerCase());
    const buttons = all("button[data-kind]", tools);
    const search = tools.querySelector("input");
    const group = tools.querySelector("select");
    const status = tools.querySelector("[data-status]");
    const pager = document.querySelector("[data-pager]");
    const [back, forth] = all("button", pager);
    let kind = "";
    let page = 0;
    const show = () => {
      const words = search.value.trim().toLowerCase();
      const fits = items.filter((item, i) => (!kind || item.dataset.kind === kind)
        && (!group?.value || item.dataset.group === group.value) && texts[i].includes(words));
      const pages = Math.max(1, Math.ceil(fits.length / PER_PAGE));
      page = Math.min(page, pages - 1);
      const seen = new Set(fits.slice(page * PER_PAGE, (page + 1) * PER_PAGE));
      items.forEach((item) => { item.hidden = !seen.has(item); });
      const first = page * PER_PAGE + 1;
      status.textContent = fits.length
        ? `${first}–${first + seen.size - 1} of ${fits.length}` : "nothing fits";
      pager.hidden = pages < 2;
      pager.querySelector("[data-page]").textContent = `Page ${page + 1} of ${pages}`;
      back.disabled = page === 0;
      forth.disabled = page === pages - 1;
    };
    const turn = (step) => { page += step; show(); tools.scrollIntoView({ block: "start" }); };
    buttons.forEach((button) => button.addEventListener("click", () => {
      kind = button.dataset.kind;
      page = 0;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      show();
    }));
    search.addEventListener("input", () => { page = 0; show(); });
    group?.addEventListener("change", () => { page = 0; show(); });
    back.addEventListener("click", () => turn(-1));
    forth.addEventListener("click", () => turn(1));
    tools.hidden = false;
    show();
  }

  // a larger view; the arrow keys flip between the images of a pair. Without this script a picture is a plain link
  const box = document.querySelector("dialog");
  const shots = all(".shot[data-view]");
  if (box && shots.length) {
    const stage = box.querySelector("[data-stage]");
    const words = box.querySelector("[data-words]");
    const [back, forth, close] = all("button", box);
    let views = [];
    let at = 0;
    const draw = () => {
      const shot = views[at];
      stage.className = shot.classList.contains("difference") ? "stage difference" : "stage";
      stage.replaceChildren(...all("img", shot).map((image) => {
        const copy = new Image();
        copy.src = image.currentSrc || image.src;
        copy.alt = image.alt;
        return copy;
      }), ...all("svg.outline", shot).map((outline) => outline.cloneNode(true)));
      words.textContent = shot.dataset.view;
    };
    const go = (step) => { at = (at + step + views.length) % views.length; draw(); };
    shots.forEach((shot) => shot.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      views = shots.filter((other) => !other.closest("[hidden]"));
      at = views.indexOf(shot);
      draw();
      box.showModal();
    }));
    back.addEventListener("click", () => go(-1));
    forth.addEventListener("click", () => go(1));
    close.addEventListener("click", () => box.close());
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
    box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") go(-1);
      if (event.key === "ArrowRight") go(1);
    });
  }
})();
