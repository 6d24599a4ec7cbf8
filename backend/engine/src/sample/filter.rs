//! Top-k and top-p before a draw (VAR's `sample_with_top_k_top_p_`).

use tch::{Kind, Tensor};

/// Probabilities of `logits` (f32 `[…, V]`) after top-k, then top-p; same shape.
///
/// Top-k keeps every logit not below the k-th largest, ties included; 0 and k ≥ V keep all. Top-p
/// drops codewords in ascending order of probability while their cumulative probability is at most
/// `1 − top_p`; the best is always kept; 0 keeps all.
pub fn filtered_probs(logits: &Tensor, top_k: usize, top_p: f64) -> Tensor {
    let vocabulary = logits.size()[logits.dim() - 1];
    let mut logits = logits.to_kind(Kind::Float);
    if top_k > 0 && (top_k as u64) < vocabulary as u64 {
        let kth = logits.topk(top_k as i64, -1, true, true).0.amin([-1i64].as_slice(), true);
        logits = logits.masked_fill(&logits.lt_tensor(&kth), f64::NEG_INFINITY);
    }
    if top_p > 0.0 {
        let (sorted, order) = logits.sort(-1, false);
        let dropped = sorted.softmax(-1, Kind::Float).cumsum(-1, Kind::Float).le(1.0 - top_p);
        let _ = dropped.narrow(-1, vocabulary - 1, 1).fill_(0);
        // Back from ascending order to the vocabulary's.
        let dropped = dropped.zeros_like().scatter(-1, &order, &dropped);
        logits = logits.masked_fill(&dropped, f64::NEG_INFINITY);
    }
    logits.softmax(-1, Kind::Float)
}
