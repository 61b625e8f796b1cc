// Internal to parallel/context/: KvTransport moves keys and values, and their gradients, as the
// exchanges of a sharded mask say.
//
// Keys and values travel as rows of blocks, [n, X]: one row holds a block's keys of all batch rows,
// then its values. Both ways can run while something else is computed. All ranks of the group make
// the same calls in the same order; CommError when a rank is lost.
//
//   KvTransport::Pending fetched = transport.fetch(step, own_NX);
//   ...                                                             // compute the step before
//   const at::Tensor rows_MX = fetched.finish();
//   transport.give_back(step, grad_MX, total_NX).finish();          // in backward
//
// Shape legend: N blocks of this rank, M blocks at hand, X elements of a block
// (B x block_size x (K x D + K x E)), B batch rows, S tokens, K key heads, D and E head dims of
// keys and values.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "parallel/comm/process_group.h"
#include "parallel/context/plan/shard_masks.h"

namespace tessera {

class KvTransport {
 public:
  // dtype is that of keys, values and their gradients on the way. `shard` must outlive the
  // transport.
  KvTransport(const ContextShard& shard, ProcessGroup group, at::ScalarType dtype);

  // Work on its way; finish() waits and gives the result, once.
  class Pending {
   public:
    at::Tensor finish();

   private:
    friend class KvTransport;
    std::vector<PendingWork> works_;
    std::function<at::Tensor()> result_;
  };

  // Starts step `step`; the result has the rows of its exchange's kv_blocks, [M, X], undefined when
  // there are none.
  Pending fetch(size_t step, const at::Tensor& own_NX) const;

  // The transpose of fetch: starts sending gradients home. grad_MX has the gradients of the rows
  // that fetch gave (undefined when it gave none). finish() returns total_NX, to which it has added
  // the gradients of this rank's keys and values from all ranks.
  Pending give_back(size_t step, const at::Tensor& grad_MX, const at::Tensor& total_NX) const;

 private:
  Pending fetch_needed(const KvExchange& exchange, const at::Tensor& own_NX) const;
  Pending fetch_all(const at::Tensor& own_NX) const;
  Pending fetch_shard(size_t step, const at::Tensor& own_NX) const;
  Pending return_needed(const KvExchange& exchange, const at::Tensor& grad_MX,
                        const at::Tensor& total_NX) const;
  Pending return_all(const at::Tensor& grad_MX, const at::Tensor& total_NX) const;
  Pending return_shard(size_t step, const at::Tensor& grad_MX, const at::Tensor& total_NX) const;

  const ContextShard& shard_;
  ProcessGroup group_;
  at::ScalarType dtype_;
};

// Keys [B, S, K, D] and values [B, S, K, E] as rows of blocks of `block_size` tokens.
at::Tensor to_block_rows(const at::Tensor& k_BSKD, const at::Tensor& v_BSKE, int64_t block_size);

// The inverse of to_block_rows. The sizes are those of the results, but for the length, which
// follows from the number of rows.
std::pair<at::Tensor, at::Tensor> from_block_rows(const at::Tensor& rows_MX,
                                                  at::IntArrayRef sizes_BSKD,
                                                  at::IntArrayRef sizes_BSKE, int64_t block_size);

}  // namespace tessera
