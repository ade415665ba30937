import './base.css';
import './page.css';
import './cells.css';
import './label.css';
