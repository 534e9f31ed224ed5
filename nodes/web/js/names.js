// Names of our nodes in the page's language. The host hands them out (locales/), but a page that loads a language late
// writes its own words over them; so ours are laid on top once more before nodes are made known. Where the page keeps
// its words elsewhere, nothing happens and names stay English.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const words = () => {
  const page = document.querySelector("[data-v-app]")?.__vue_app__;
  return page?._context?.provides?.[page.__VUE_I18N_SYMBOL__]?.global;
};

app.registerExtension({
  name: "MirrorPPR.Names",
  async init() {
    const known = words();
    if (!known?.mergeLocaleMessage) return;
    const answer = await api.fetchApi("/i18n");
    if (!answer.ok) return;
    for (const [language, said] of Object.entries(await answer.json())) {
      const ours = Object.entries(said.nodeDefs ?? {}).filter(([node]) => node.startsWith("MirrorPPR_"));
      if (ours.length) known.mergeLocaleMessage(language, { nodeDefs: Object.fromEntries(ours) });
    }
  },
});
