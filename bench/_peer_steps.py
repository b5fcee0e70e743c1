"""Answers of one engine of others, token by token, disturbed: `python -m bench._peer_steps KIND < PLAN`.

Run by the interpreter that has the peers; imports nothing of ours, but for the kind `ours`. PLAN is one JSON object:
how the engine is started, and runs. Of a run: requests `before` it (of one that was `cancelled`, three tokens are
read), those `beside` it, how many tokens of its prompt another had `shared` before it, and the `chunk` its prompt is
cut in. Prints one JSON list: of each run's tokens [token, leading ids and raw logits], or for `ours` [token, trace].
Each engine samples as it does, out of the seed of the request.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import count, islice

LEADERS = 8
CANCELLED_AFTER = 3
LENGTH_MAX = 256
SEQUENCES = 8


def leading(row):
    """The greatest of a row of logits, greatest first; of equal ones the lower id."""
    import numpy

    order = numpy.lexsort((numpy.arange(len(row)), -row))[:LEADERS]
    return [[int(token), float(row[token])] for token in order]


class Transformers:
    def __init__(self, how):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(how["threads"])
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(how["model"], dtype=torch.bfloat16)

    def before(self, request):
        self.generate([request], 0)

    def answer(self, run):
        more = {}
        if run["chunk"]:
            more["prefill_chunk_size"] = run["chunk"]
        if run["shared"]:
            from transformers import DynamicCache

            cache = DynamicCache(config=self.model.config)
            with self.torch.inference_mode():
                self.model(self.torch.tensor([run["request"]["prompt"][: run["shared"]]]), past_key_values=cache)
            more["past_key_values"] = cache
        place = run["place"]
        return self.generate([*run["beside"][:place], run["request"], *run["beside"][place:]], place, more)

    def close(self):
        pass

    def generate(self, requests, place, more=None):
        torch, asked = self.torch, requests[place]
        width = max(len(request["prompt"]) for request in requests)
        ids = torch.tensor([[0] * (width - len(each["prompt"])) + each["prompt"] for each in requests])
        mask = torch.tensor([[0] * (width - len(each["prompt"])) + [1] * len(each["prompt"]) for each in requests])
        how = {"do_sample": asked["temperature"] > 0}
        how |= {"temperature": asked["temperature"], "top_k": 0} if how["do_sample"] else {}
        torch.manual_seed(int(asked["seed"][:8], 16))
        with torch.inference_mode():
            done = self.model.generate(
                ids,
                attention_mask=mask,
                pad_token_id=0,
                max_new_tokens=asked["tokens"],
                min_new_tokens=asked["tokens"],
                return_dict_in_generate=True,
                output_logits=True,
                **how,
                **(more or {}),
            )
        said = done.sequences[place, width:].tolist()
        return [[token, leading(row[place].float().numpy())] for token, row in zip(said, done.logits, strict=True)]


class Vllm:
    def __init__(self, how):
        threads = how["threads"]
        os.environ |= {
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}" if threads > 1 else "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        }
        from vllm import EngineArgs, LLMEngine

        self.numbers = count()
        self.engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=how["model"],
                skip_tokenizer_init=True,
                dtype="bfloat16",
                max_model_len=LENGTH_MAX,
                block_size=32,
                max_num_seqs=SEQUENCES,
                max_num_batched_tokens=how["chunk"] or SEQUENCES * LENGTH_MAX,
                enable_chunked_prefill=True,
                enable_prefix_caching=how["prefix"],
                enforce_eager=True,
                disable_log_stats=True,
                logprobs_mode="raw_logits",
                max_logprobs=LEADERS,
            )
        )

    def close(self):
        self.engine.engine_core.shutdown()

    def add(self, request):
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        number = str(next(self.numbers))
        self.engine.add_request(
            number,
            {"prompt_token_ids": request["prompt"]},
            SamplingParams(
                temperature=request["temperature"],
                seed=int(request["seed"][:8], 16),
                max_tokens=request["tokens"],
                logprobs=LEADERS,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            ),
        )
        return number

    def steps(self, number):
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                if output.request_id == number:
                    said = output.outputs[0]
                    yield from zip(said.token_ids, said.logprobs, strict=True)

    def before(self, request):
        number = self.add(request)
        for _ in islice(self.steps(number), CANCELLED_AFTER if request.get("cancelled") else None):
            pass
        self.engine.abort_request([number])
        for _ in self.steps(number):
            pass

    def answer(self, run):
        place = run["place"]
        numbers = [self.add(each) for each in (*run["beside"][:place], run["request"], *run["beside"][place:])]
        found = []
        for token, logits in self.steps(numbers[place]):
            greatest = sorted(((i, each.logprob) for i, each in logits.items()), key=lambda one: (-one[1], one[0]))
            found.append([token, greatest[:LEADERS]])
        return found


class Llama:
    def __init__(self, how):
        import llama_cpp
        import numpy

        self.c, self.numpy, self.threads = llama_cpp, numpy, how["threads"]
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(how["model"].encode(), params)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.contexts = {}

    def close(self):
        pass

    def context(self, chunk):
        if chunk not in self.contexts:
            params = self.c.llama_context_default_params()
            params.n_ctx, params.n_seq_max = SEQUENCES * LENGTH_MAX, SEQUENCES
            params.n_batch, params.n_ubatch = SEQUENCES * LENGTH_MAX, chunk or 512
            params.n_threads = params.n_threads_batch = self.threads
            self.contexts[chunk] = self.c.llama_init_from_model(self.model, params)
        return self.contexts[chunk]

    def decode(self, context, rows):
        """Rows of (token, position, sequence, whether its logits are wanted) in one call."""
        batch = self.c.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position, wanted
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        if self.c.llama_decode(context, batch):
            raise RuntimeError("llama_decode")
        self.c.llama_batch_free(batch)

    def sampler(self, request):
        chain = self.c.llama_sampler_chain_init(self.c.llama_sampler_chain_default_params())
        if request["temperature"] > 0:
            self.c.llama_sampler_chain_add(chain, self.c.llama_sampler_init_temp(request["temperature"]))
            self.c.llama_sampler_chain_add(chain, self.c.llama_sampler_init_dist(int(request["seed"][:8], 16)))
        else:
            self.c.llama_sampler_chain_add(chain, self.c.llama_sampler_init_greedy())
        return chain

    def before(self, request):
        request = request | ({"tokens": CANCELLED_AFTER} if request.get("cancelled") else {})
        self.answer({"request": request, "beside": [], "place": 0, "shared": 0, "chunk": 0})

    def answer(self, run):
        context, place = self.context(run["chunk"]), run["place"]
        requests = [*run["beside"][:place], run["request"], *run["beside"][place:]]
        self.c.llama_memory_clear(self.c.llama_get_memory(context), True)
        shared = run["shared"]
        if shared:
            self.decode(context, [(token, at, 0, False) for at, token in enumerate(run["request"]["prompt"][:shared])])
        rows = [
            (token, at, which, at == len(each["prompt"]) - 1)
            for which, each in enumerate(requests)
            for at, token in enumerate(each["prompt"])
            if at >= shared
        ]
        samplers, found = [self.sampler(each) for each in requests], []
        for said in range(run["request"]["tokens"]):
            self.decode(context, rows)
            wanted = [index for index, row in enumerate(rows) if row[3]]
            got = self.c.llama_get_logits_ith(context, wanted[place])
            leaders = leading(self.numpy.ctypeslib.as_array(got, shape=(self.vocabulary,)).copy())
            tokens = [
                self.c.llama_sampler_sample(chain, context, index)
                for chain, index in zip(samplers, wanted, strict=True)
            ]
            found.append([tokens[place], leaders])
            rows = [(token, len(requests[which]["prompt"]) + said, which, True) for which, token in enumerate(tokens)]
        for chain in samplers:
            self.c.llama_sampler_free(chain)
        return found


class Ours:
    def __init__(self, how):
        from pathlib import Path

        from appliance.engine.vllm_engine import VllmEngine

        self.engine = VllmEngine(Path(how["model"]), LENGTH_MAX)

    def close(self):
        self.engine.close()

    def running(self, request):
        from appliance.engine.protocol import EngineRequest, Sampling

        sampling = request["sampling"] | {"logit_bias": tuple(map(tuple, request["sampling"]["logit_bias"]))}
        seed = bytes.fromhex(request["seed"])
        return self.engine.run(EngineRequest(tuple(request["prompt"]), request["tokens"], seed, Sampling(**sampling)))

    def before(self, request):
        running = self.running(request)
        list(islice(running, CANCELLED_AFTER if request.get("cancelled") else None))
        running.close()

    def answer(self, run):
        return [[step.token, step.trace.hex()] for step in self.running(run["request"])]


def main():
    plan = json.load(sys.stdin)
    engine = {"transformers": Transformers, "vllm": Vllm, "llama": Llama, "ours": Ours}[sys.argv[1]](plan["how"])
    answers = []
    for run in plan["runs"]:
        for request in run["before"]:
            engine.before(request)
        answers.append(engine.answer(run))
    print("\n" + json.dumps(answers), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
