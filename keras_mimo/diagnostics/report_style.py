# The blue, orange and green of Okabe and Ito, safe for the colour-blind; paler
# ones in the dark.
STYLE = """\
:root {
  --back: #ffffff; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --tile: #f3f5f7; --own: #0072b2; --lost: #d55e00; --part: #009e73;
  --link: #005b8f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14181d; --text: #e8ebee; --soft: #a3adb8; --line: #3a434d;
    --tile: #1f252c; --own: #56b4e9; --lost: #e69f00; --part: #2fc79c;
    --link: #7cc7f5;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--back); color: var(--text);
  font: 17px/1.55 system-ui, sans-serif; overflow-wrap: anywhere;
}
main { max-width: 48rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .4rem; }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .2rem; }
a { color: var(--link); }
small, .label, summary { color: var(--soft); }
summary { cursor: pointer; font-size: .9rem; }
details { margin: 0 0 .8rem; }
.summary {
  display: inline-block; padding: .5rem .9rem; border-radius: .5rem;
  background: var(--tile); border: 1px solid var(--line); font-weight: 600;
}
.tiles { display: flex; flex-wrap: wrap; gap: .7rem; }
.tile {
  flex: 1 1 9rem; padding: .8rem; border-radius: .5rem;
  background: var(--tile);
}
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; }
.tile span { display: block; }
.tile small { display: block; font-size: .85rem; line-height: 1.35; }
.row {
  display: grid; grid-template-columns: 5.5rem 1fr 6.5rem; gap: .6rem;
  align-items: center; margin: .3rem 0;
}
.one { grid-template-columns: 1fr 6.5rem; }
.label { font-size: .95rem; line-height: 1.2; }
.value { text-align: right; font-variant-numeric: tabular-nums; }
.track {
  position: relative; height: 1.3rem; background: var(--tile);
  border-radius: .2rem;
}
.bar { position: absolute; top: 0; bottom: 0; border-radius: .2rem; }
.own { background: var(--own); }
.lost, .minus { background: var(--lost); }
.part { background: var(--part); }
.track i {
  position: absolute; top: -.25rem; bottom: -.25rem;
  border-left: 2px solid var(--text);
}
.wide { overflow-x: auto; }
table {
  border-collapse: collapse; font-size: .9rem; overflow-wrap: normal;
}
th, td {
  padding: .35rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums;
}
thead th { white-space: normal; vertical-align: bottom; }
th:first-child { text-align: left; }
.verdict {
  margin: 1rem 0; padding: .2rem 1rem; border-radius: .5rem;
  background: var(--tile); border-left: 4px solid var(--lost);
}
@media (max-width: 30rem) {
  .row { grid-template-columns: 4.6rem 1fr 4.2rem; gap: .4rem; }
  .one { grid-template-columns: 1fr 6.2rem; }
}
"""
