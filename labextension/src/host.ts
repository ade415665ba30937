// A widget that fetches its code when it is first seen: until then it costs nothing and asks nothing.

import { Message } from '@lumino/messaging';
import { PanelLayout, Widget } from '@lumino/widgets';

export class LazyHost extends Widget {
  constructor(private readonly _make: () => Promise<Widget>) {
    super();
    this.addClass('jp-nbops-Host');
    this.layout = new PanelLayout();
  }

  protected override onBeforeShow(msg: Message): void {
    super.onBeforeShow(msg);
    this._fill();
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    if (this.isVisible) {
      this._fill();
    }
  }

  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    this._fill();
    this._content?.activate();
  }

  protected override onCloseRequest(msg: Message): void {
    super.onCloseRequest(msg);
    if (this.title.closable) {
      this.dispose(); // else it would be found, detached, by who opens the same page again
    }
  }

  private _fill(): void {
    if (this._filled) {
      return;
    }
    this._filled = true;
    void this._make().then(content => {
      if (this.isDisposed) {
        content.dispose();
        return;
      }
      this._content = content;
      (this.layout as PanelLayout).addWidget(content);
    });
  }

  private _filled = false;
  private _content: Widget | null = null;
}
