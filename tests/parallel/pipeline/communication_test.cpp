#include "parallel/pipeline/communication.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

std::string order_of(const ExecutionPlan& plan, int64_t rank) {
  std::string text;
  for (const Action& action : plan.ranks[rank]) {
    text += (text.empty() ? "" : " ") + to_string(action);
  }
  return text;
}

int64_t count(const ExecutionPlan& plan, bool (*matches)(ActionKind)) {
  int64_t number = 0;
  for (const auto& actions : plan.ranks) {
    number += std::count_if(actions.begin(), actions.end(),
                            [&](const Action& action) { return matches(action.kind); });
  }
  return number;
}

// All schedules for ranks 1 to 4 and microbatches up to 3 a rank.
template <typename F>
void for_each_schedule(F body) {
  for (const ScheduleTraits& traits : all_schedule_traits()) {
    for (int64_t num_ranks = 1; num_ranks <= 4; ++num_ranks) {
      for (int64_t num_microbatches = 1; num_microbatches <= 3 * num_ranks; ++num_microbatches) {
        for (int64_t local = 1; local <= 3; ++local) {
          std::optional<Schedule> schedule;
          try {
            schedule = make_schedule(traits.name, {num_ranks, num_microbatches, local});
          } catch (const c10::Error&) {
            continue;
          }
          body(*schedule);
        }
      }
    }
  }
}

TEST(Communication, OneForwardOneBackward) {
  const ExecutionPlan plan = derive_communication(make_schedule("1F1B", {2, 2}));
  EXPECT_EQ(order_of(plan, 0), "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1 0REDUCE_GRAD");
  EXPECT_EQ(order_of(plan, 1), "1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1 1REDUCE_GRAD");
}

TEST(Communication, NeighboursOnOneRankHandOver) {
  const ExecutionPlan plan = derive_communication(make_schedule("ZBVZeroBubble", {2, 1}));
  EXPECT_EQ(
      order_of(plan, 0),
      "0F0 0SEND_F0 3RECV_F0 3F0 3I0 3SEND_B0 3W0 3REDUCE_GRAD 0RECV_B0 0I0 0W0 0REDUCE_GRAD");
  EXPECT_EQ(order_of(plan, 1),
            "1RECV_F0 1F0 2F0 2SEND_F0 2RECV_B0 2I0 2W0 2REDUCE_GRAD 1I0 1SEND_B0 1W0 "
            "1REDUCE_GRAD");
  const ExecutionPlan alone = derive_communication(make_schedule("LoopedBFS", {1, 2, 2}));
  EXPECT_EQ(count(alone, is_send) + count(alone, is_receive), 0);
}

TEST(Communication, OverlappedPairsStayTogether) {
  const Schedule schedule = make_schedule("DualPipeV", {2, 4});
  int64_t num_pairs = 0;
  for (const auto& actions : derive_communication(schedule).ranks) {
    for (size_t i = 0; i < actions.size(); ++i) {
      if (!actions[i].overlaps_next) continue;
      EXPECT_EQ(actions[i + 1].kind, ActionKind::kBackward) << to_string(actions[i]);
      ++num_pairs;
    }
  }
  EXPECT_GT(num_pairs, 5);
}

TEST(Communication, PlansRunUnderBothTransports) {
  int64_t num_plans = 0;
  for_each_schedule([&](const Schedule& schedule) {
    const ExecutionPlan plan = derive_communication(schedule);
    for (const Transport transport : {Transport::kBuffered, Transport::kRendezvous}) {
      EXPECT_NO_THROW(validate_plan(plan, transport)) << write_schedule_csv(schedule);
    }
    ++num_plans;
  });
  EXPECT_GT(num_plans, 300);
}

TEST(Communication, ComputationKeepsItsOrder) {
  for_each_schedule([](const Schedule& schedule) {
    ExecutionPlan plan = derive_communication(schedule);
    for (auto& actions : plan.ranks) {
      std::erase_if(actions, [](const Action& action) { return !is_compute(action.kind); });
    }
    EXPECT_EQ(plan.ranks, schedule.ranks);
  });
}

TEST(Communication, EachBoundaryBetweenRanksIsCrossedOncePerMicrobatchAndDirection) {
  for_each_schedule([](const Schedule& schedule) {
    int64_t num_boundaries = 0;
    for (int64_t stage = 1; stage < schedule.num_stages(); ++stage) {
      const std::vector<int64_t>& rank_of_stage = schedule.placement.rank_of_stage;
      num_boundaries += rank_of_stage[stage] != rank_of_stage[stage - 1];
    }
    const ExecutionPlan plan = derive_communication(schedule);
    EXPECT_EQ(count(plan, is_send), 2 * num_boundaries * schedule.num_microbatches);
    EXPECT_EQ(count(plan, is_receive), count(plan, is_send));
  });
}

TEST(Communication, GradientsAreReducedOnceAStageAfterItsLastWeightGradient) {
  for_each_schedule([](const Schedule& schedule) {
    const ExecutionPlan plan = derive_communication(schedule);
    std::map<int64_t, int64_t> num_weights;
    std::set<int64_t> reduced;
    for (const auto& actions : plan.ranks) {
      for (const Action& action : actions) {
        const bool gives_weights =
            action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight;
        num_weights[action.stage] += gives_weights;
        if (action.kind != ActionKind::kReduceGradients) continue;
        EXPECT_EQ(num_weights[action.stage], schedule.num_microbatches);
        EXPECT_TRUE(reduced.insert(action.stage).second);
      }
    }
    EXPECT_EQ(static_cast<int64_t>(reduced.size()), schedule.num_stages());
  });
}

TEST(Communication, TagsPairSendsWithTheirReceives) {
  const Schedule schedule = make_schedule("Interleaved1F1B", {3, 6});
  std::map<int64_t, std::vector<int64_t>> ends;  // tag to (rank, peer) of its send and its receive
  const ExecutionPlan plan = derive_communication(schedule);
  for (int64_t rank = 0; rank < 3; ++rank) {
    for (const Action& action : plan.ranks[rank]) {
      if (!is_send(action.kind) && !is_receive(action.kind)) continue;
      const int64_t tag = message_tag(action, plan.num_microbatches);
      EXPECT_GE(tag, 0);
      EXPECT_LT(tag, 2 * schedule.num_stages() * schedule.num_microbatches);
      const int64_t peer = peer_rank(action, plan.placement);
      const int64_t from = is_send(action.kind) ? rank : peer;
      const int64_t to = is_send(action.kind) ? peer : rank;
      ends[tag].insert(ends[tag].end(), {from, to});
    }
  }
  EXPECT_EQ(static_cast<int64_t>(ends.size()), count(plan, is_send));
  for (const auto& [tag, ranks] : ends) {
    ASSERT_EQ(ranks.size(), 4u) << "tag " << tag;
    EXPECT_EQ(ranks[0], ranks[2]) << "tag " << tag;
    EXPECT_EQ(ranks[1], ranks[3]) << "tag " << tag;
  }
}

TEST(Communication, ADeadlockIsRefused) {
  const Schedule schedule = read_schedule_csv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n");
  EXPECT_ERROR(derive_communication(schedule), "deadlock", "rank 0, position 1 (0B0)");
}

ExecutionPlan swapped(ExecutionPlan plan, int64_t rank, size_t a, size_t b) {
  std::swap(plan.ranks[rank].at(a), plan.ranks[rank].at(b));
  return plan;
}

TEST(ValidatePlan, BrokenPlansAreRefusedWithTheReason) {
  // rank 0: 0F0 0SEND_F0 0RECV_B0 0B0 0REDUCE_GRAD   rank 1: 1RECV_F0 1F0 1B0 1SEND_B0 1REDUCE_GRAD
  const ExecutionPlan plan = derive_communication(make_schedule("1F1B", {2, 2}));
  ExecutionPlan small = derive_communication(read_schedule_csv("0F0,0B0\n1F0,1B0\n"));
  for (const Transport transport : {Transport::kBuffered, Transport::kRendezvous}) {
    EXPECT_ERROR(validate_plan(swapped(small, 0, 0, 1), transport), "rank 0, position 0 (0SEND_F0)",
                 "sends what is not there");
    EXPECT_ERROR(validate_plan(swapped(small, 1, 0, 1), transport), "rank 1, position 0 (1F0)",
                 "before what it needs");
    EXPECT_ERROR(validate_plan(swapped(small, 0, 1, 2), transport), "waits for ever");
    // Rank 1 takes the second message for the first.
    EXPECT_ERROR(validate_plan(swapped(plan, 1, 0, 1), transport), "rank 1, position 0 (1RECV_F1)",
                 "meets 0SEND_F0");
  }
  small.ranks[0].erase(small.ranks[0].begin() + 1);
  EXPECT_ERROR(validate_plan(small, Transport::kBuffered), "rank 0, position 1 (0RECV_B0)",
               "waits for ever");
}

TEST(ValidatePlan, AMessageThatNobodyReceivesIsFound) {
  ExecutionPlan plan = derive_communication(read_schedule_csv("0F0,0B0\n1F0,1B0\n"));
  plan.ranks[1].insert(plan.ranks[1].begin() + 4, {ActionKind::kSendBackward, 1, 0});
  EXPECT_ERROR(validate_plan(plan, Transport::kBuffered), "rank 0 never receives",
               "1SEND_B0 of rank 1");
}

// Both ranks send before they receive: fine where sends are buffered, a deadlock where not.
TEST(ValidatePlan, TransportsDiffer) {
  const ExecutionPlan plan{.placement = loop_placement(2, 2),
                           .num_microbatches = 2,
                           .ranks = {{{ActionKind::kForward, 0, 0},
                                      {ActionKind::kSendForward, 0, 0},
                                      {ActionKind::kForward, 0, 1},
                                      {ActionKind::kSendForward, 0, 1},
                                      {ActionKind::kReceiveForward, 2, 0}},
                                     {{ActionKind::kReceiveForward, 1, 0},
                                      {ActionKind::kForward, 1, 0},
                                      {ActionKind::kSendForward, 1, 0},
                                      {ActionKind::kReceiveForward, 1, 1}}}};
  EXPECT_NO_THROW(validate_plan(plan, Transport::kBuffered));
  EXPECT_ERROR(validate_plan(plan, Transport::kRendezvous), "rank 0, position 3 (0SEND_F1)",
               "waits for ever");
}

}  // namespace
}  // namespace tessera::pipeline
