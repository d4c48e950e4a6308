//! Figures are what was measured, brought into order.

use std::time::Duration;

/// One quantity, measured several times.
#[derive(Debug, Default, Clone)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a span of time, in milliseconds.
    pub fn add(&mut self, span: Duration) {
        self.0.push(span.as_secs_f64() * 1000.0);
    }

    /// Adds a figure as it is.
    pub fn add_figure(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest that at least `share` of all are not above; not a number where nothing was measured.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a handful of figures"
        )]
        let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// `median (p90)`, without a unit.
    pub fn text(&self) -> String {
        format!("{:>8.1} {:>8.1}", self.median(), self.quantile(0.9))
    }
}
