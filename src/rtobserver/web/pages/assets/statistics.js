// The page of sums: charts of its table, and the table as text.

import { drawFigures } from "./charts.js";
import { offerCopies } from "./copying.js";

drawFigures();
offerCopies();
