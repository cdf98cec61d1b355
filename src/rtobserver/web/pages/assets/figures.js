// Pages with figures: charts of their tables, and the tables as text.

import { drawFigures } from "./charts.js";
import { offerCopies } from "./copying.js";

drawFigures();
offerCopies();
