// Puts the labelling widget where a notebook shows its output; the widget's code comes when one is first shown.

import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Message } from '@lumino/messaging';
import { PanelLayout, Widget } from '@lumino/widgets';

import type { LabelView } from './labelling';
import { ITools } from './tools';

export const MIME = 'application/vnd.nbops.label+json';

type RenderMime = NotebookPanel['content']['rendermime'];
type Factory = Parameters<RenderMime['addFactory']>[0];
/** What an output holds, by mime type. */
export type Model = Parameters<ReturnType<Factory['createRenderer']>['renderModel']>[0];

/** Let every notebook, open now or later, show labelling widgets. */
export function showLabels(notebooks: INotebookTracker, tools: ITools): void {
  const add = (panel: NotebookPanel): void => {
    const factory: Factory = {
      safe: false, // where the notebook is not trusted, the static card is shown
      mimeTypes: [MIME],
      createRenderer: () => new LabelHost(panel, tools)
    };
    panel.content.rendermime.addFactory(factory, 0);
  };
  notebooks.forEach(add);
  notebooks.widgetAdded.connect((_, panel) => add(panel));
}

/** One output with a labelling widget. */
class LabelHost extends Widget {
  constructor(
    private readonly _panel: NotebookPanel,
    private readonly _tools: ITools
  ) {
    super();
    this.addClass('jp-nbops-Label-host');
    this.layout = new PanelLayout();
  }

  async renderModel(model: Model): Promise<void> {
    const data = model.data[MIME] as { session?: string; shown?: string } | undefined;
    const [session, shown] = [data?.session ?? '', data?.shown ?? ''];
    if (this._shown === shown) {
      return; // the card beside it was brought up to date, by the view itself
    }
    this._shown = shown;
    const { LabelView } = await import('./labelling');
    if (this.isDisposed) {
      return;
    }
    this._view?.dispose();
    this._view = new LabelView(this._panel, this._tools.trans, session, model);
    (this.layout as PanelLayout).addWidget(this._view);
  }

  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    this._view?.activate();
  }

  private _shown: string | null = null;
  private _view: LabelView | null = null;
}
