# What SLURM needs to know of training on several GPUs and nodes. Needs ANY_RUN of common.smk; makes TRAINING.

DEVICES, NODES = ANY_RUN["execution.devices"], ANY_RUN["execution.nodes"]
SEVERAL = DEVICES * NODES > 1

# In a job of SLURM, srun starts the processes of several devices; elsewhere `pretrain` does so itself. GPUS is there for
# the profile, where a site names its type of GPU: `gres: gpu:a100:$GPUS`.
IN_JOB = workflow.remote_exec and "SLURM_JOB_ID" in os.environ
os.environ.update(
    GPUS=str(DEVICES),
    SRUN=(
        f"srun --nodes {NODES} --ntasks {NODES * DEVICES} --ntasks-per-node {DEVICES} --cpus-per-task"
        if SEVERAL and IN_JOB
        else ""
    ),
)

# Beside memory and time, a job of training asks for a GPU for each process, and for a signal two minutes before its time
# is over, at which `pretrain` writes a checkpoint and has SLURM run the job once more. Local runs pay no heed to this.
TRAINING = {
    "nodes": NODES,
    "gres": f"gpu:{DEVICES}",
    "slurm_extra": "--signal=URG@120" + (f" --ntasks-per-node={DEVICES}" if SEVERAL else ""),
}
# `mpi` tells the executor that the job calls srun itself; without the 0 it would ask for all `tasks` on each GPU.
if SEVERAL:
    TRAINING |= {"mpi": "srun", "tasks": NODES * DEVICES, "tasks_per_gpu": 0}
