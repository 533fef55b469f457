// Package text is how things are said and laid out, on a screen or in lines
// that are printed: numbers, durations, symbols and colours, what is known of a
// plan, a result, a snapshot or a comparison, wrapped into so many cells. It
// knows no keys and no screens, and does nothing but return text.
package text
