// The icon of the panel: a run's curve in a frame, as the other icons of the side bar are drawn.

import { LabIcon } from '@jupyterlab/ui-components';

const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
<g class="jp-icon3" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" style="fill: none">
<path d="M4 4v16h16"/><path d="M8 8c1.2 5.6 3.6 7.6 11.5 8"/><circle cx="16.5" cy="7.5" r="2.5"/></g></svg>`;

export const nbopsIcon = new LabIcon({ name: 'nbops:icon', svgstr });
