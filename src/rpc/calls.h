// Calls of a service, each answered by the thread that finds it in the queue: gRPC's asynchronous
// interface, with handlers that are plain functions. rpc/polling.h sees to it that a slow one is in
// nobody's way.
#pragma once

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "rpc/polling.h"
#include "rpc/server.h"

namespace veneer {

// Where calls are waited for and answered.
class CallQueue {
 public:
  explicit CallQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue)
      : queue_(std::move(queue)) {}
  grpc::ServerCompletionQueue& get() { return *queue_; }

  // Each call is one as long as it may begin something in the queue.
  class Use {
   public:
    explicit Use(CallQueue& of) : of_(of) {
      const std::lock_guard lock(of_.mutex_);
      ++of_.uses_;
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      const std::lock_guard lock(of_.mutex_);
      if (--of_.uses_ == 0) of_.is_unused_.notify_all();
    }

   private:
    CallQueue& of_;
  };
  // For the end: the server gives no more calls, and those that waited for one are told so.
  void wait_until_unused() {
    std::unique_lock lock(mutex_);
    is_unused_.wait(lock, [this] { return uses_ == 0; });
  }

 private:
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::mutex mutex_;
  std::condition_variable is_unused_;
  size_t uses_ = 0;
};

// A service, and where its calls are waited for. One queue in its life.
class CallService {
 public:
  virtual ~CallService() = default;
  virtual grpc::Service& service() = 0;
  // When the server runs: waits for the first call of each method, with answer_unary() and
  // answer_stream().
  virtual void listen(CallQueue& queue) = 0;
};

// A step of a call, which is told when it is done.
template <typename Call>
class CallStep final : public QueueEvent {
 public:
  CallStep(Call& call, void (Call::*next)(bool)) : call_(call), next_(next) {}
  void run(bool is_ok) override { (call_.*next_)(is_ok); }

 private:
  Call& call_;
  void (Call::*next_)(bool);
};

// One request, one response. Owns itself, from waiting for the request to the end of the call.
template <typename Service, typename Request, typename Response>
class UnaryCall {
 public:
  struct Method {
    Service& service;
    void (Service::*receive)(grpc::ServerContext*, Request*,
                             grpc::ServerAsyncResponseWriter<Response>*, grpc::CompletionQueue*,
                             grpc::ServerCompletionQueue*, void*);
    std::function<grpc::Status(const grpc::ServerContext&, const Request&, Response&)> answer;
    CallQueue& queue;
    bool is_cancellable = false;  // the context knows of the client's going, which costs an event
  };

  static void wait_for(std::shared_ptr<const Method> method) {
    std::unique_ptr<UnaryCall> call(new UnaryCall(std::move(method)));
    const Method& of = *call->method_;
    if (of.is_cancellable) call->context_.AsyncNotifyWhenDone(&call->ended_);
    (of.service.*of.receive)(&call->context_, &call->request_, &call->responder_, &of.queue.get(),
                             &of.queue.get(), &call->received_);
    (void)call.release();
  }

 private:
  explicit UnaryCall(std::shared_ptr<const Method> method)
      : method_(std::move(method)), use_(method_->queue), ends_(method_->is_cancellable ? 2 : 1) {}

  void received(bool is_ok) {
    if (!is_ok) return free();  // the server takes no more calls
    wait_for(method_);
    const grpc::Status status = method_->answer(context_, request_, response_);
    responder_.Finish(response_, status, &ended_);
  }
  // Comes for the answer, which was sent or not, and for a call that can be cancelled, in any
  // order.
  void ended(bool) {
    if (--ends_ == 0) free();
  }
  void free() { const std::unique_ptr<UnaryCall> self(this); }

  std::shared_ptr<const Method> method_;
  CallQueue::Use use_;  // to the end of what follows
  grpc::ServerContext context_;
  Request request_;
  Response response_;
  grpc::ServerAsyncResponseWriter<Response> responder_{&context_};
  CallStep<UnaryCall> received_{*this, &UnaryCall::received};
  CallStep<UnaryCall> ended_{*this, &UnaryCall::ended};
  std::atomic<int> ends_;
};

// One request, any number of responses, each written before the next is made.
template <typename Service, typename Request, typename Response>
class StreamCall {
 public:
  using Write = std::function<bool(const Response&)>;  // false when the client has gone
  struct Method {
    Service& service;
    void (Service::*receive)(grpc::ServerContext*, Request*, grpc::ServerAsyncWriter<Response>*,
                             grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*);
    std::function<grpc::Status(const Request&, const Write&)> answer;
    CallQueue& queue;
  };

  static void wait_for(std::shared_ptr<const Method> method) {
    std::unique_ptr<StreamCall> call(new StreamCall(std::move(method)));
    const Method& of = *call->method_;
    (of.service.*of.receive)(&call->context_, &call->request_, &call->writer_, &call->own_queue_,
                             &of.queue.get(), &call->received_);
    (void)call.release();
  }

 private:
  explicit StreamCall(std::shared_ptr<const Method> method)
      : method_(std::move(method)), use_(method_->queue) {}

  void received(bool is_ok) {
    const std::unique_ptr<StreamCall> self(this);
    if (is_ok) {
      wait_for(method_);
      const grpc::Status status = method_->answer(request_, [this](const Response& response) {
        writer_.Write(response, this);
        return is_done();
      });
      writer_.Finish(status, this);
      (void)is_done();  // whether it was sent or not
    }
    own_queue_.Shutdown();
    while (is_done()) continue;
  }
  // Waits for the next step of this call alone.
  bool is_done() {
    void* tag = nullptr;
    bool is_ok = false;
    return own_queue_.Next(&tag, &is_ok) && is_ok;
  }

  std::shared_ptr<const Method> method_;
  CallQueue::Use use_;  // to the end of what follows
  grpc::CompletionQueue own_queue_;
  grpc::ServerContext context_;
  Request request_;
  grpc::ServerAsyncWriter<Response> writer_{&context_};
  CallStep<StreamCall> received_{*this, &StreamCall::received};
};

// Waits for calls of one method: "&AsyncService::RequestX", and the member of `own` that answers.
template <typename Service, typename Request, typename Response, typename Own>
void answer_unary(CallQueue& queue, std::type_identity_t<Service>& service,
                  void (Service::*receive)(grpc::ServerContext*, Request*,
                                           grpc::ServerAsyncResponseWriter<Response>*,
                                           grpc::CompletionQueue*, grpc::ServerCompletionQueue*,
                                           void*),
                  Own* own, grpc::Status (Own::*answer)(const Request&, Response&)) {
  using Call = UnaryCall<Service, Request, Response>;
  Call::wait_for(std::make_shared<typename Call::Method>(typename Call::Method{
      service, receive,
      [own, answer](const grpc::ServerContext&, const Request& request, Response& response) {
        return (own->*answer)(request, response);
      },
      queue}));
}

// The same for one that looks whether it was cancelled, or at what came beside the request.
template <typename Service, typename Request, typename Response, typename Own>
void answer_unary(
    CallQueue& queue, std::type_identity_t<Service>& service,
    void (Service::*receive)(grpc::ServerContext*, Request*,
                             grpc::ServerAsyncResponseWriter<Response>*, grpc::CompletionQueue*,
                             grpc::ServerCompletionQueue*, void*),
    Own* own, grpc::Status (Own::*answer)(const grpc::ServerContext&, const Request&, Response&)) {
  using Call = UnaryCall<Service, Request, Response>;
  Call::wait_for(std::make_shared<typename Call::Method>(
      typename Call::Method{service, receive, std::bind_front(answer, own), queue, true}));
}

template <typename Service, typename Request, typename Response, typename Own>
void answer_stream(
    CallQueue& queue, std::type_identity_t<Service>& service,
    void (Service::*receive)(grpc::ServerContext*, Request*, grpc::ServerAsyncWriter<Response>*,
                             grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
    Own* own,
    grpc::Status (Own::*answer)(const Request&, const std::function<bool(const Response&)>&)) {
  using Call = StreamCall<Service, Request, Response>;
  Call::wait_for(std::make_shared<typename Call::Method>(
      typename Call::Method{service, receive, std::bind_front(answer, own), queue}));
}

}  // namespace veneer
